//! `muster grant`: who may do a part of what an administrator may.

mod change;
mod fields;
mod find;
mod view;

use clap::Subcommand;
use muster_proto::grant::grants_client::GrantsClient;
use tonic::{Code, Status, transport::Channel};

use crate::{
    args::ServerSocket,
    connect::{Daemon, connect},
    failure::Failure,
    output::{Answer, Style},
};

#[derive(Debug, Subcommand)]
pub(crate) enum GrantCommand {
    /// Let somebody do a part of what an administrator may.
    Create(change::Create),
    /// List grants, all or those of one subject.
    List(find::List),
    /// Show a grant.
    Show(find::Show),
    /// Change a grant. What you don't name stays as it is.
    Update(change::Update),
    /// Delete grants. From the next call on they allow nothing; what was made by them stays.
    Delete(change::Delete),
}

impl GrantCommand {
    pub(crate) async fn run(self, style: &Style) -> Result<Answer, Failure> {
        match self {
            Self::Create(command) => command.run().await,
            Self::List(command) => command.run(style).await,
            Self::Show(command) => command.run().await,
            Self::Update(command) => command.run().await,
            Self::Delete(command) => command.run().await,
        }
    }
}

async fn client(socket: &ServerSocket) -> Result<GrantsClient<Channel>, Failure> {
    Ok(GrantsClient::new(connect(&socket.path, Daemon::Server).await?))
}

fn refused(what: String, status: &Status) -> Failure {
    let failure = Failure::status(what, status);
    match status.code() {
        Code::NotFound => failure.next("`muster grant list` shows which there are"),
        _ => failure,
    }
}
