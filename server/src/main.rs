//! `muster-server`: the process around the server.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use muster_runtime::Stop;
use muster_runtime::logging;
use muster_runtime::process::{self, exit};
use muster_server::arguments::{Arguments, Command, ConfigCommand};
use muster_server::{Config, Surroundings, build, config};

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Run { config } => load(&config).map(run),
        Command::Config {
            command: ConfigCommand::Check { config },
        } => load(&config).map(|_| {
            println!("{}: no mistakes", config.display());
            Ok(())
        }),
        Command::Config {
            command: ConfigCommand::Example,
        } => {
            print!("{}", config::EXAMPLE);
            Ok(Ok(()))
        }
    };
    match outcome {
        Ok(Ok(())) => ExitCode::from(exit::DONE),
        Ok(Err(error)) => {
            eprintln!("muster-server: {error:#}");
            ExitCode::from(exit::REFUSED)
        }
        Err(code) => code,
    }
}

fn load(path: &Path) -> Result<Config, ExitCode> {
    Config::load(path).map_err(|error| {
        eprintln!("muster-server: {error}");
        ExitCode::from(exit::USAGE)
    })
}

#[tokio::main]
async fn run(config: Config) -> anyhow::Result<()> {
    process::harden().context("closing the process to others")?;
    let log_level = logging::install(config.log_level, config.log_format)?;
    #[expect(
        clippy::disallowed_methods,
        reason = "systemd names its socket in the environment; read once, here"
    )]
    let notify_socket = std::env::var("NOTIFY_SOCKET").ok();
    let stop = Stop::new();
    let server = build(config, Surroundings::new(log_level)).await?;
    let readiness = server.readiness();
    let (signals, notify) = (
        process::stop_on_signals(stop.clone()),
        process::notify_systemd(notify_socket, readiness, stop.clone()),
    );
    let running = async {
        let ended = server.run(stop.clone()).await;
        stop.order();
        ended
    };
    let (ended, signals, notify) = tokio::join!(running, signals, notify);
    ended?;
    signals.context("listening for signals")?;
    notify.context("telling systemd")
}
