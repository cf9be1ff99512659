//! `muster-agent`: the process around the node agent.
//!
//! ```text
//! arguments ─→ run:    configuration, sockets that systemd passed ─→ build ─→ Bound::run        systemd, signals ←→ Supervisor
//!              join:   token and pin are read, root is given up ─→ attest::join
//!              config: check, example
//! ```
//!
//! What concerns the whole process happens here and nowhere else: it is closed to others, the log is opened, signals are heard, the environment is read, once. The
//! library below does none of this, so that `muster dev` can hold an agent and a server in one process. Begin at [`muster_agent::build`].

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use muster_agent::arguments::{Arguments, Command, ConfigCommand};
use muster_agent::attest::{JoinError, JoinRequest, join};
use muster_agent::{BuildError, Config, Surroundings, build, config};
use muster_runtime::process::{self, StopSignals};
use muster_runtime::program::{self, Failure};
use muster_runtime::systemd::{Environment, Supervisor};
use muster_runtime::{Stop, SystemClock, Wiping, logging};
use muster_transport::PassedSockets;

/// Answers with keys in them pass buffers that are not ours.
#[global_allocator]
static MEMORY: Wiping = Wiping;

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Run { config: file } => Config::load(&file)
            .map_err(Failure::from)
            .and_then(|config| run(file, config).map_err(why_not_run)),
        Command::Join(arguments) => arguments.request().and_then(|request| become_node(&request)),
        Command::Config {
            command: ConfigCommand::Check { config },
        } => program::check_config(&config, Config::load),
        Command::Config {
            command: ConfigCommand::Example,
        } => {
            print!("{}", config::EXAMPLE);
            Ok(())
        }
    };
    program::finish("muster-agent", outcome)
}

/// A machine that is no node becomes one by a person, not by another start: the code is the one after which systemd makes none.
fn why_not_run(error: anyhow::Error) -> Failure {
    match error.downcast_ref() {
        Some(BuildError::NotJoined) => Failure::usage(error),
        _ => Failure::refused(error),
    }
}

fn become_node(request: &JoinRequest) -> Result<(), Failure> {
    // Before there is a second thread and before anything is written. It opens the process to its new user again, so it is closed after that.
    process::become_owner_of(&request.data_dir)
        .with_context(|| format!("becoming the owner of {}", request.data_dir.display()))
        .map_err(Failure::refused)?;
    process::harden()
        .context("closing the process to others")
        .map_err(Failure::refused)?;
    join_server(request).map_err(|error| match error.downcast_ref() {
        Some(JoinError::Connect(away)) if !away.is_another_server() => Failure::unreachable(error),
        _ => Failure::refused(error),
    })
}

#[tokio::main(flavor = "current_thread")]
async fn join_server(request: &JoinRequest) -> anyhow::Result<()> {
    let joined = join(request, &SystemClock).await?;
    println!("{}", joined.id);
    eprintln!(
        "joined {}; the first certificate ends {}, and the running agent renews it",
        request.server, joined.expires
    );
    Ok(())
}

#[tokio::main]
async fn run(file: PathBuf, config: Config) -> anyhow::Result<()> {
    process::harden().context("closing the process to others")?;
    let log_level = logging::install(config.log_level, config.log_format)?;
    let signals = StopSignals::listen().context("listening for signals")?;
    let supervisor = Supervisor::new(&Environment::read()).context("listening for SIGHUP")?;
    let surroundings = Surroundings {
        sockets: passed_sockets()?,
        ..Surroundings::new(log_level)
    };
    let stop = Stop::new();
    let agent = build(config, surroundings).await?;
    let (readiness, supervised) = (agent.readiness(), agent.supervised(file));
    let signals = signals.order(stop.clone());
    let told = supervisor.run(readiness, stop.clone(), supervised);
    let running = async {
        let ended = agent.run(stop.clone()).await;
        stop.order();
        ended
    };
    let (ended, (), ()) = tokio::join!(running, signals, told);
    Ok(ended?)
}

#[expect(
    clippy::disallowed_methods,
    reason = "systemd describes its sockets in the environment; read once, here"
)]
fn passed_sockets() -> anyhow::Result<PassedSockets> {
    PassedSockets::take(|name| std::env::var(name).ok()).context("taking the sockets that systemd passed")
}
