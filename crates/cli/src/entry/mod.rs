//! `muster entry`: who gets which identity.

mod change;
mod fields;
mod find;
mod view;
mod wait;

use clap::Subcommand;
use muster_proto::spire::server::entry::entry_client::EntryClient;
use tonic::transport::Channel;

use crate::{
    args::ServerSocket,
    connect::{Daemon, connect},
    failure::Failure,
    output::{Answer, Style},
};

pub(crate) use find::{How, selector_match};

#[derive(Debug, Subcommand)]
pub(crate) enum EntryCommand {
    /// Register an identity.
    Create(change::Create),
    /// List entries, all or those that match.
    List(find::List),
    /// Show entries by their ids.
    Show(find::Show),
    /// Count entries, all or those that match.
    Count(find::Count),
    /// Change an entry. What you don't name stays as it is.
    Update(change::Update),
    /// Delete entries. Who holds their identities loses them at once.
    Delete(change::Delete),
}

impl EntryCommand {
    pub(crate) async fn run(self, style: &Style) -> Result<Answer, Failure> {
        match self {
            Self::Create(command) => command.run(style).await,
            Self::List(command) => command.run(style).await,
            Self::Show(command) => command.run().await,
            Self::Count(command) => command.run().await,
            Self::Update(command) => command.run().await,
            Self::Delete(command) => command.run().await,
        }
    }
}

async fn client(socket: &ServerSocket) -> Result<EntryClient<Channel>, Failure> {
    Ok(EntryClient::new(connect(&socket.path, Daemon::Server).await?))
}
