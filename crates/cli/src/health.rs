//! `muster health`.

use serde_json::json;
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::{
    connect::{Daemon, connect, workload_socket},
    failure::Failure,
    output::Answer,
};

/// Each daemon answers where those who depend on it connect: the server on its admin socket, the node agent on
/// the Workload API's.
#[derive(clap::Args, Debug)]
pub(crate) struct Health {
    /// Ask the node agent on this host instead of the server.
    #[arg(long)]
    agent: bool,
    /// The daemon's socket. [default: that of MUSTER_SERVER_SOCKET, with --agent of SPIFFE_ENDPOINT_SOCKET]
    #[arg(long, value_name = "PATH")]
    socket: Option<String>,
    /// Where the server's is.
    #[arg(
        long,
        env = "MUSTER_SERVER_SOCKET",
        default_value = "/run/muster/server/admin.sock",
        hide = true
    )]
    server_socket: String,
    /// Where the agent's is.
    #[arg(
        long,
        env = "SPIFFE_ENDPOINT_SOCKET",
        default_value = "/run/muster/workload/api.sock",
        hide = true
    )]
    workload_socket: String,
}

impl Health {
    pub(crate) async fn run(self) -> Result<Answer, Failure> {
        let (name, daemon, usual) = if self.agent {
            ("the node agent", Daemon::WorkloadApi, self.workload_socket)
        } else {
            ("the server", Daemon::Server, self.server_socket)
        };
        let path = workload_socket(&self.socket.unwrap_or(usual))?;
        let mut client = HealthClient::new(connect(&path, daemon).await?);
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
