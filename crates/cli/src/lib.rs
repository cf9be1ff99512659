//! `muster`: the operator's command.
//!
//! ```text
//! entry, node, token, grant, bundle, authority, federation, mint, log, health ─gRPC, admin socket→ server or agent
//! fetch                                                                       ─gRPC, Workload API→ agent, as any workload
//! audit                                                                       ─→ the files of an audit log, no daemon
//! validate                                                                    ─→ muster-pki, no daemon, no clock but the one you name
//! dev                                                                         ─→ a server and an agent inside this process
//! ```
//!
//! One file for each noun of the command. A command returns what is to be printed ([`output::Answer`]) or why it
//! failed ([`failure::Failure`]: the thing, the reason, the next step); only [`main`] prints and decides the exit
//! code: 0 done, 1 refused or not found, 2 usage, 3 the daemon could not be reached.
//!
//! Trusted: nothing that a daemon sends is printed without being parsed or escaped first. Begin at [`main`].

mod args;
mod audit;
mod authority;
mod bundle;
mod connect;
mod dev;
mod duration;
mod entry;
mod failure;
mod federation;
mod fetch;
mod files;
mod fingerprint;
mod grant;
mod health;
mod jwk_set;
mod log;
mod mint;
mod node;
mod output;
mod pages;
mod pem;
mod remote;
mod token;
mod validate;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use crate::{
    args::{Command, Muster},
    failure::Failure,
    output::{Answer, Style},
};

/// The command line as a whole, of which man pages and completions are made.
pub fn command() -> clap::Command {
    Muster::command()
}

/// Reads the command line, does what it says, prints, and gives the exit code.
pub fn main() -> ExitCode {
    let muster = Muster::parse();
    let style = Style::of_terminal(muster.output);
    let outcome = runtime(&muster.command).and_then(|runtime| runtime.block_on(run(muster.command, &style)));
    match outcome.and_then(|answer| style.print(&answer).map(|()| answer.exit_code())) {
        Ok(code) => code,
        Err(failure) => {
            style.print_failure(&failure);
            failure.exit_code()
        }
    }
}

async fn run(command: Command, style: &Style) -> Result<Answer, Failure> {
    match command {
        Command::Dev(command) => command.run(style).await,
        Command::Entry(command) => command.run(style).await,
        Command::Node(command) => command.run(style).await,
        Command::Token(command) => command.run().await,
        Command::Grant(command) => command.run(style).await,
        Command::Bundle(command) => command.run(style).await,
        Command::Authority(command) => command.run(style).await,
        Command::Federation(command) => command.run(style).await,
        Command::Mint(command) => command.run().await,
        Command::Fetch(command) => command.run(style).await,
        Command::Validate(command) => command.run(),
        Command::Audit(command) => command.run(),
        Command::Health(command) => command.run().await,
        Command::Log(command) => command.run().await,
    }
}

/// Two daemons need threads; everything else is a call or two.
fn runtime(command: &Command) -> Result<tokio::runtime::Runtime, Failure> {
    let mut builder = match command {
        Command::Dev(_) => tokio::runtime::Builder::new_multi_thread(),
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    builder
        .enable_all()
        .build()
        .map_err(|error| Failure::refused("could not start", error))
}
