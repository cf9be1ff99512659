//! The command line of `muster-agent`: what may be typed, for `main`, the manual page and the shells' completions.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};
use muster_identity::TrustDomain;
use muster_node_attestors::{JoinToken, JoinTokenAttestor, ParseJoinTokenError};
use muster_plugin_api::NodeAttestor;
use muster_runtime::program::Failure;

use crate::attest::{JoinRequest, OldMembership, Pin, read_token};
use crate::config::{self, Config};

/// Where the configuration is when nobody says otherwise.
pub const CONFIG_FILE: &str = "/etc/muster/agent.toml";

/// The Muster node agent: hands each process on this host the identity it is entitled to.
#[derive(Debug, Parser)]
#[command(name = "muster-agent", version)]
pub struct Arguments {
    /// What is to be done.
    #[command(subcommand)]
    pub command: Command,
}

/// What `muster-agent` does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the agent until SIGTERM or SIGINT; SIGHUP makes it read its configuration again.
    Run {
        /// The configuration file.
        #[arg(long, value_name = "FILE", default_value = CONFIG_FILE)]
        config: PathBuf,
    },
    /// Make this machine a node, with a token that the server made for it.
    Join(JoinArguments),
    /// Look after configuration files.
    Config {
        /// How.
        #[command(subcommand)]
        command: ConfigCommand,
    },
}

/// How a machine becomes a node. As root it is done in the name of the user to whom the data folder belongs, so that the agent that runs as this user can use it.
#[derive(Args, Debug)]
#[command(group(clap::ArgGroup::new("pin").required(true).args(["bundle", "bundle_sha256"])))]
#[command(group(clap::ArgGroup::new("proof").args(["token_file", "token"])))]
pub struct JoinArguments {
    /// The server.
    #[arg(long, value_name = "HOST:PORT")]
    pub server: String,
    /// The file that holds the token; `-` reads it from standard input.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// The token itself; `-` reads it from standard input. Everyone on this machine who may list processes sees a token that stands here: prefer --token-file.
    #[arg(long)]
    pub token: Option<TokenArgument>,
    /// The server's trust bundle: PEM, DER or a SPIFFE bundle document.
    #[arg(long, value_name = "FILE")]
    pub bundle: Option<PathBuf>,
    /// The SHA-256 fingerprint of one of its X.509 authorities, as `openssl x509 -fingerprint -sha256` prints it.
    #[arg(long, value_name = "FINGERPRINT")]
    pub bundle_sha256: Option<String>,
    /// The trust domain, to refuse any other.
    #[arg(long, value_name = "NAME")]
    pub trust_domain: Option<TrustDomain>,
    /// Where the node keeps its state; by default as the configuration says.
    #[arg(long, value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,
    /// The configuration file, for the folder, and for [node_attestor] when no token is given. It need not exist.
    #[arg(long, value_name = "FILE", default_value = CONFIG_FILE)]
    pub config: PathBuf,
    /// Give up the identity that this machine has.
    #[arg(long)]
    pub replace: bool,
}

/// What may stand after `--token`.
#[derive(Clone, Debug)]
pub enum TokenArgument {
    /// `-`.
    StandardInput,
    /// The token.
    Token(JoinToken),
}

/// What is done with configuration files.
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

impl JoinArguments {
    /// What is asked of the server. Every file that was named is read now, as whoever typed the command.
    pub fn request(self) -> Result<JoinRequest, Failure> {
        let pin = match (self.bundle, self.bundle_sha256) {
            (Some(file), _) => Pin::File(file).read_now().map_err(Failure::usage)?,
            (None, Some(text)) => text
                .parse()
                .map_err(|error| Failure::usage(format!("--bundle-sha256: {error}")))?,
            (None, None) => {
                return Err(Failure::usage(
                    "--bundle or --bundle-sha256 is needed, to recognise the server by",
                ));
            }
        };
        let needs_config = self.data_dir.is_none() || (self.token_file.is_none() && self.token.is_none());
        let config = (needs_config && self.config.exists())
            .then(|| Config::load(&self.config))
            .transpose()?;
        let token = match (self.token_file, self.token) {
            (Some(file), _) => Some(read_token(&file).map_err(Failure::usage)?),
            (None, Some(TokenArgument::StandardInput)) => {
                Some(read_token(Path::new("-")).map_err(Failure::usage)?)
            }
            (None, Some(TokenArgument::Token(token))) => Some(token),
            (None, None) => None,
        };
        let configured = config.as_ref().and_then(|config| config.node_attestor.as_ref());
        let attestor: Arc<dyn NodeAttestor> = match (token, configured) {
            (Some(token), _) => Arc::new(JoinTokenAttestor::new(token)),
            (None, Some(proof)) => proof.attestor(),
            (None, None) => {
                return Err(Failure::usage(
                    "--token-file is needed, or [node_attestor] in the configuration, to prove this machine by",
                ));
            }
        };
        let data_dir = match (self.data_dir, config) {
            (Some(folder), _) => folder,
            (None, Some(config)) => config.data_dir,
            (None, None) => PathBuf::from(config::DATA_DIR),
        };
        Ok(JoinRequest {
            data_dir,
            server: self.server,
            attestor,
            pin,
            trust_domain: self.trust_domain,
            old: if self.replace {
                OldMembership::Replace
            } else {
                OldMembership::Keep
            },
        })
    }
}

impl FromStr for TokenArgument {
    type Err = ParseJoinTokenError;

    fn from_str(text: &str) -> Result<Self, ParseJoinTokenError> {
        match text {
            "-" => Ok(Self::StandardInput),
            text => text.parse().map(Self::Token),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn join(more: &[&str]) -> Result<JoinArguments, clap::Error> {
        let arguments = ["muster-agent", "join", "--server", "a:1"].iter().chain(more);
        match Arguments::try_parse_from(arguments)?.command {
            Command::Join(join) => Ok(join),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_command_line_has_no_contradictions() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn joining_takes_one_token_and_one_pin() {
        let pin = ["--bundle-sha256", &"ab".repeat(32)];
        let with = |more: &[&'static str]| join(&[&pin[..], more].concat());
        assert!(with(&["--token-file", "/t"]).is_ok());
        assert!(with(&["--token", "-"]).is_ok());
        assert!(with(&["--token-file", "/t", "--token", "abc"]).is_err());
        assert!(join(&["--token-file", "/t"]).is_err());
    }

    #[test]
    fn without_a_token_the_configuration_must_say_what_proves_the_machine() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("agent.toml");
        let pin = "ab".repeat(32);
        let typed = || {
            join(&["--bundle-sha256", &pin, "--config", config.to_str().unwrap()])
                .unwrap()
                .request()
        };
        assert!(typed().is_err(), "no configuration");
        std::fs::write(&config, "data_dir = '/x'").unwrap();
        assert!(typed().is_err(), "nothing in it");
        std::fs::write(
            &config,
            "data_dir = '/x'\n[node_attestor.k8s_psat]\ncluster = 'c'",
        )
        .unwrap();
        let request = typed().unwrap();
        assert_eq!(request.attestor.kind(), "k8s_psat");
        assert_eq!(request.data_dir, Path::new("/x"));
    }

    #[test]
    fn what_was_typed_as_a_token_is_not_shown() {
        let typed = join(&["--token", "1f4c9d2e", "--bundle", "b"]).unwrap();
        assert!(!format!("{typed:?}").contains("1f4c9d2e"));
        let wrong = join(&["--token", "a b", "--bundle", "b"]).unwrap_err();
        assert_eq!(wrong.kind(), clap::error::ErrorKind::ValueValidation);
    }

    #[test]
    fn the_files_that_were_named_are_read_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let (token, bundle) = (folder.path().join("token"), folder.path().join("bundle"));
        let typed = |file: &Path| {
            join(&[
                "--token-file",
                token.to_str().unwrap(),
                "--bundle",
                file.to_str().unwrap(),
            ])
        };
        std::fs::write(&bundle, "x").unwrap();
        assert!(typed(&bundle).unwrap().request().is_err(), "no token file");
        std::fs::write(&token, "abc\n").unwrap();
        let request = typed(&bundle).unwrap().request().unwrap();
        std::fs::remove_file(&bundle).unwrap();
        assert!(matches!(request.pin, Pin::Document { .. }));
        assert!(typed(&bundle).unwrap().request().is_err(), "no bundle file");
    }
}
