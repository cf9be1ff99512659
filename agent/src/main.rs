//! `muster-agent`: the process around the node agent.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use muster_agent::attest::{JoinRequest, OldMembership, Pin, join};
use muster_agent::{Config, Surroundings, build, config};
use muster_identity::TrustDomain;
use muster_node_attestors::JoinToken;
use muster_runtime::process::{self, exit};
use muster_runtime::{Stop, SystemClock, logging};

const CONFIG_FILE: &str = "/etc/muster/agent.toml";

/// The Muster node agent: hands each process on this host the identity it is entitled to.
#[derive(Parser)]
#[command(name = "muster-agent", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the agent until SIGTERM or SIGINT.
    Run {
        /// The configuration file.
        #[arg(long, default_value = CONFIG_FILE)]
        config: PathBuf,
    },
    /// Make this machine a node, with a token that the server made for it.
    Join(JoinArguments),
    /// Look after configuration files.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
}

#[derive(Args)]
#[command(group(clap::ArgGroup::new("pin").required(true).args(["bundle", "bundle_sha256"])))]
struct JoinArguments {
    /// The server.
    #[arg(long, value_name = "HOST:PORT")]
    server: String,
    /// The token; `-` reads it from standard input, so that it stands in no list of processes.
    #[arg(long)]
    token: String,
    /// The server's trust bundle: PEM, DER or a SPIFFE bundle document.
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    /// The SHA-256 fingerprint of one of its X.509 authorities, as `openssl x509 -fingerprint -sha256` prints it.
    #[arg(long, value_name = "FINGERPRINT")]
    bundle_sha256: Option<String>,
    /// The trust domain, to refuse any other.
    #[arg(long, value_name = "NAME")]
    trust_domain: Option<TrustDomain>,
    /// Where the node keeps its state; by default as the configuration says.
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// The configuration file, for the folder. It need not exist.
    #[arg(long, default_value = CONFIG_FILE)]
    config: PathBuf,
    /// Give up the identity that this machine has.
    #[arg(long)]
    replace: bool,
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Read a configuration file and report every mistake in it.
    Check {
        /// The configuration file.
        #[arg(long, default_value = CONFIG_FILE)]
        config: PathBuf,
    },
    /// Print a commented example with every key and its default.
    Example,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Run { config } => load(&config).map(run),
        Command::Join(arguments) => request(arguments).map(|request| join_server(&request)),
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
            eprintln!("muster-agent: {error:#}");
            ExitCode::from(code_of(&error))
        }
        Err(code) => code,
    }
}

fn load(path: &Path) -> Result<Config, ExitCode> {
    Config::load(path).map_err(|error| usage(&error))
}

fn usage(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("muster-agent: {error}");
    ExitCode::from(exit::USAGE)
}

fn code_of(error: &anyhow::Error) -> u8 {
    match error.downcast_ref::<muster_agent::attest::JoinError>() {
        Some(muster_agent::attest::JoinError::Connect(_)) => exit::UNREACHABLE,
        _ => exit::REFUSED,
    }
}

fn request(arguments: JoinArguments) -> Result<JoinRequest, ExitCode> {
    let pin = match (arguments.bundle, arguments.bundle_sha256) {
        (Some(file), _) => Pin::File(file),
        (None, Some(text)) => text
            .parse()
            .map_err(|error| usage(&format_args!("--bundle-sha256: {error}")))?,
        (None, None) => {
            return Err(usage(
                &"--bundle or --bundle-sha256 is needed, to recognise the server by",
            ));
        }
    };
    let data_dir = match arguments.data_dir {
        Some(folder) => folder,
        None if arguments.config.exists() => load(&arguments.config)?.data_dir,
        None => PathBuf::from(config::DATA_DIR),
    };
    Ok(JoinRequest {
        data_dir,
        server: arguments.server,
        token: token(arguments.token)?,
        pin,
        trust_domain: arguments.trust_domain,
        old: if arguments.replace {
            OldMembership::Replace
        } else {
            OldMembership::Keep
        },
    })
}

fn token(text: String) -> Result<JoinToken, ExitCode> {
    let text = if text == "-" {
        std::io::read_to_string(std::io::stdin()).map_err(|error| usage(&format_args!("--token: {error}")))?
    } else {
        text
    };
    text.trim()
        .parse()
        .map_err(|error| usage(&format_args!("--token: {error}")))
}

#[tokio::main(flavor = "current_thread")]
async fn join_server(request: &JoinRequest) -> anyhow::Result<()> {
    process::harden().context("closing the process to others")?;
    let joined = join(request, &SystemClock).await?;
    println!("{}", joined.id);
    eprintln!(
        "joined {}; the first certificate ends {}, and the running agent renews it",
        request.server, joined.expires
    );
    Ok(())
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
    let agent = build(config, Surroundings::new(log_level)).await?;
    let readiness = agent.readiness();
    let signals = process::stop_on_signals(stop.clone());
    let notify = process::notify_systemd(notify_socket, readiness, stop.clone());
    let running = async {
        let ended = agent.run(stop.clone()).await;
        stop.order();
        ended
    };
    let (ended, signals, notify) = tokio::join!(running, signals, notify);
    ended?;
    signals.context("listening for signals")?;
    notify.context("telling systemd")
}
