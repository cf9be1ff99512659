//! `muster health`.

use serde_json::json;
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::{
    args::DaemonSocket,
    connect::{Daemon, connect},
    failure::Failure,
    output::Answer,
};

#[derive(clap::Args, Debug)]
pub(crate) struct Health {
    #[command(flatten)]
    socket: DaemonSocket,
}

impl Health {
    pub(crate) async fn run(self) -> Result<Answer, Failure> {
        let (name, daemon) = if self.socket.agent {
            ("the node agent", Daemon::AgentAdmin)
        } else {
            ("the server", Daemon::Server)
        };
        let mut client = HealthClient::new(connect(self.socket.path(), daemon).await?);
        let what = format!("{name} is not healthy");
        let next = "its log and its HTTP address /ready say what is missing";
        let answer = client
            .check(HealthCheckRequest::default())
            .await
            .map_err(|status| match status.code() {
                Code::Unavailable => Failure::status(&what, &status).next(next),
                _ => Failure::status(format!("could not ask {name} for its health"), &status),
            })?
            .into_inner();
        if answer.status() != ServingStatus::Serving {
            return Err(Failure::refused(what, "it answers that it is not serving").next(next));
        }
        Ok(Answer::new(
            format!("{name} is healthy"),
            json!({ "healthy": true }),
        ))
    }
}
