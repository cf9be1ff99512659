//! A server of the set that is rotated together.

use std::path::Path;
use std::time::Duration;

use muster_proto::authority::rotation_client::RotationClient;
use muster_proto::authority::{GetProgressRequest, GetProgressResponse};
use muster_proto::spire::server::localauthority::local_authority_client::LocalAuthorityClient;
use tonic::{Code, Status, transport::Channel};

use crate::{
    connect::{Daemon, connect},
    failure::Failure,
    remote,
};

/// How long an activation may wait for nodes that hang, and what a slow disk may take beside.
const CALL: Duration = Duration::from_secs(60);

/// One server, connected.
#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) name: String,
    pub(super) authorities: LocalAuthorityClient<Channel>,
    rotation: RotationClient<Channel>,
}

impl Server {
    /// By its admin socket, where the name holds a slash; else by host and port, as the administrator that the Workload API says this process is.
    pub(super) async fn connect(name: &str, workload: &str, leaving: &[String]) -> Result<Self, Failure> {
        let channel = if is_here(name) {
            connect(Path::new(name), Daemon::Server).await?
        } else {
            remote::connect(name, workload, leaving).await?
        };
        Ok(Self {
            name: name.to_owned(),
            authorities: LocalAuthorityClient::new(channel.clone()),
            rotation: RotationClient::new(channel),
        })
    }

    /// Comes again with an identity that outlives the authorities that are `leaving`.
    pub(super) async fn come_again(&mut self, workload: &str, leaving: &[String]) -> Result<(), Failure> {
        if !is_here(&self.name) {
            *self = Self::connect(&self.name, workload, leaving).await?;
        }
        Ok(())
    }

    /// How far its nodes are; none when it is a server that can't say.
    pub(super) async fn progress(&mut self) -> Result<Option<GetProgressResponse>, Failure> {
        match self.rotation.get_progress(GetProgressRequest {}).await {
            Ok(progress) => Ok(Some(progress.into_inner())),
            Err(status) if status.code() == Code::Unimplemented => Ok(None),
            Err(status) => Err(self.failure("could not ask how far the nodes are", &status)),
        }
    }

    /// Waits for a call, but not for ever.
    pub(super) async fn within<T>(
        &self,
        what: &str,
        call: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Failure> {
        match tokio::time::timeout(CALL, call).await {
            Ok(answer) => answer.map_err(|status| self.failure(what, &status)),
            Err(_) => Err(Failure::unreachable(
                format!("{what} on {}", self.name),
                format!("no answer within {} s", CALL.as_secs()),
            )),
        }
    }

    fn failure(&self, what: &str, status: &Status) -> Failure {
        Failure::status(format!("{what} on {}", self.name), status)
    }
}

/// Whether a server's name is the path of a socket.
fn is_here(name: &str) -> bool {
    name.contains('/')
}
