//! `muster authority`: what signs, taken through its life.

mod command;
mod kind;
mod rotate;
mod server;

use clap::Subcommand;

use crate::{
    failure::Failure,
    output::{Answer, Style},
};

#[derive(Debug, Subcommand)]
pub(crate) enum AuthorityCommand {
    /// Show what signs, what is to sign next, and what signed last.
    Show(command::Show),
    /// Make an authority that is to sign next, in the place of one that was.
    Prepare(command::Prepare),
    /// Let the prepared authority sign, once the connected nodes hold it.
    Activate(command::Activate),
    /// Have everything made again that an old authority signed. It stays trusted.
    Taint(command::Taint),
    /// Trust a tainted authority no more: nothing that it signed counts from then on.
    Revoke(command::Revoke),
    /// Take one server, or a whole set, through prepare, activate and taint, and if asked revoke.
    Rotate(rotate::Rotate),
}

impl AuthorityCommand {
    pub(crate) async fn run(self, style: &Style) -> Result<Answer, Failure> {
        match self {
            Self::Show(command) => command.run().await,
            Self::Prepare(command) => command.run().await,
            Self::Activate(command) => command.run().await,
            Self::Taint(command) => command.run().await,
            Self::Revoke(command) => command.run().await,
            Self::Rotate(command) => command.run(style).await,
        }
    }
}
