//! The command line of `muster-server`: what may be typed, for `main`, the manual pages and the shells' completions.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Where the configuration is when nobody says otherwise.
pub const CONFIG_FILE: &str = "/etc/muster/server.toml";

/// The Muster server: registers workloads, attests nodes, signs identities.
#[derive(Debug, Parser)]
#[command(name = "muster-server", version)]
pub struct Arguments {
    /// What is to be done.
    #[command(subcommand)]
    pub command: Command,
}

/// What `muster-server` does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server until SIGTERM or SIGINT; SIGHUP makes it read its configuration again.
    Run {
        /// The configuration file.
        #[arg(long, value_name = "FILE", default_value = CONFIG_FILE)]
        config: PathBuf,
    },
    /// Look after configuration files.
    Config {
        /// How.
        #[command(subcommand)]
        command: ConfigCommand,
    },
}

/// What can be done with configuration files.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Read a configuration file and report every mistake in it.
    Check {
        /// The configuration file.
        #[arg(long, value_name = "FILE", default_value = CONFIG_FILE)]
        config: PathBuf,
    },
    /// Print a commented example with every key and its default.
    Example,
}
