//! `muster-server`: the process around the server.
//!
//! ```text
//! arguments ─→ run:    configuration ─→ build ─→ Bound::run        systemd, signals ←→ Supervisor
//!              config: check, example
//! ```
//!
//! What concerns the whole process happens here and nowhere else: it is closed to others, the log is opened, signals are heard, the environment is read, once. The
//! library below does none of this, so that `muster dev` can hold an agent and a server in one process. Begin at [`muster_server::build`].

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use muster_runtime::process::{self, StopSignals};
use muster_runtime::program::{self, Failure};
use muster_runtime::systemd::{Environment, Supervisor};
use muster_runtime::{Stop, logging};
use muster_server::arguments::{Arguments, Command, ConfigCommand};
use muster_server::{Config, Surroundings, build, config};

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Run { config: file } => Config::load(&file)
            .map_err(Failure::from)
            .and_then(|config| run(file, config).map_err(Failure::refused)),
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
    program::finish("muster-server", outcome)
}

#[tokio::main]
async fn run(file: PathBuf, config: Config) -> anyhow::Result<()> {
    process::harden().context("closing the process to others")?;
    let log_level = logging::install(config.log_level, config.log_format)?;
    // Before anything is built: a SIGHUP that comes meanwhile is a reload, and a SIGTERM a stop in good order.
    let signals = StopSignals::listen().context("listening for signals")?;
    let supervisor = Supervisor::new(&Environment::read()).context("listening for SIGHUP")?;
    let stop = Stop::new();
    let server = build(config, Surroundings::new(log_level)).await?;
    let (readiness, supervised) = (server.readiness(), server.supervised(file));
    let signals = signals.order(stop.clone());
    let told = supervisor.run(readiness, stop.clone(), supervised);
    let running = async {
        let ended = server.run(stop.clone()).await;
        stop.order();
        ended
    };
    let (ended, (), ()) = tokio::join!(running, signals, told);
    Ok(ended?)
}
