//! `muster fetch`: what a workload sees. This process is the workload: what it gets depends on who runs it.

mod bundles;
mod identity;
mod jwt;
mod x509;

pub(crate) use identity::identity;

use std::time::Duration;

use clap::Subcommand;
use muster_proto::workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use tonic::{Code, Request, Status, Streaming, metadata::MetadataValue, transport::Channel};

use crate::{
    connect::{Daemon, connect, workload_socket},
    duration,
    failure::Failure,
    output::{Answer, Style},
};

#[derive(Debug, Subcommand)]
pub(crate) enum FetchCommand {
    /// X.509-SVIDs with their keys and bundles.
    X509(x509::X509),
    /// JWT-SVIDs.
    Jwt(jwt::Jwt),
    /// The bundles by which to verify others.
    Bundles(bundles::Bundles),
}

impl FetchCommand {
    pub(crate) async fn run(self, style: &Style) -> Result<Answer, Failure> {
        match self {
            Self::X509(command) => command.run(style).await,
            Self::Jwt(command) => command.run().await,
            Self::Bundles(command) => command.run().await,
        }
    }
}

/// Where the Workload API is, and how long to wait for it.
#[derive(clap::Args, Debug)]
struct Source {
    /// The Workload API's socket, as a path or as unix:PATH.
    #[arg(
        long = "socket",
        env = "SPIFFE_ENDPOINT_SOCKET",
        default_value = "/run/muster/workload/api.sock",
        value_name = "ADDRESS",
        hide_env_values = true
    )]
    address: String,
    /// How long to wait for the first answer.
    #[arg(long, value_name = "TIME", value_parser = duration::parse, default_value = "10s")]
    timeout: Duration,
}

impl Source {
    async fn client(&self) -> Result<SpiffeWorkloadApiClient<Channel>, Failure> {
        let path = workload_socket(&self.address)?;
        Ok(SpiffeWorkloadApiClient::new(
            connect(&path, Daemon::WorkloadApi).await?,
        ))
    }

    /// Waits for an answer, but not for ever.
    async fn first<T>(
        &self,
        what: &str,
        answer: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Failure> {
        match tokio::time::timeout(self.timeout, answer).await {
            Ok(answer) => answer.map_err(|status| refused(what, &status)),
            Err(_) => Err(Failure::refused(
                format!("could not fetch {what}"),
                format!("no answer within {}", humantime::format_duration(self.timeout)),
            )
            .next("look at the agent's log, or give it more time with --timeout")),
        }
    }

    /// The first message of a stream, and the stream.
    async fn first_of<T>(
        &self,
        what: &str,
        call: impl Future<Output = Result<tonic::Response<Streaming<T>>, Status>>,
    ) -> Result<(T, Streaming<T>), Failure> {
        self.first(what, async {
            let mut stream = call.await?.into_inner();
            match stream.message().await? {
                Some(message) => Ok((message, stream)),
                None => Err(Status::unavailable(
                    "the agent ended the stream without an answer",
                )),
            }
        })
        .await
    }
}

/// A call with the header that the Workload API demands of everybody (Workload Endpoint 3.1).
fn call<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("workload.spiffe.io", MetadataValue::from_static("true"));
    request
}

fn refused(what: &str, status: &Status) -> Failure {
    let failure = Failure::status(format!("could not fetch {what}"), status);
    // The other denials are about who connected, not about entries.
    if status.code() == Code::PermissionDenied && status.message().starts_with("no identity issued") {
        let (uid, gid) = (nix::unistd::getuid(), nix::unistd::getgid());
        return failure.next(format!(
            "no entry matches this process (uid {uid}, gid {gid}); create one as \
             `muster entry create SPIFFE-ID --parent NODE-ID --selector unix:uid:{uid}`"
        ));
    }
    failure
}
