//! The agent's configuration: one TOML file, read once.
//!
//! `config/example.toml` is what `muster-agent config example` prints. It holds every key with its default, and a test reads it.

mod changes;
mod node_attestor;
mod read;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_identity::TrustDomain;
use muster_node_attestors::JoinToken;
use muster_pki::KeyAlgorithm;
use muster_runtime::config::{self, ConfigError};
use muster_runtime::logging::{Format, Level};
use muster_transport::UdsLimits;
use muster_workload_attestors::UnixSettings;

use crate::api::workload::WorkloadSettings;
use crate::attest::{NodeAttestorConfig, Pin};

/// The commented example, with the defaults.
pub const EXAMPLE: &str = include_str!("example.toml");

/// Where the state lies when nobody says otherwise.
pub const DATA_DIR: &str = "/var/lib/muster/agent";

/// Everything that an agent is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where its state lies: `node/`, `audit/`, `svids.sealed`, `seal.key`.
    pub data_dir: PathBuf,
    /// The server, `host:port`. Without it, the one that the node joined.
    pub server: Option<String>,
    /// The trust domain. Without it, the one that the node joined.
    pub trust_domain: Option<TrustDomain>,
    /// The Workload API's socket.
    pub workload_socket: PathBuf,
    /// Its permission bits. Everyone may ask; what he gets depends on what he is.
    pub workload_socket_mode: u32,
    /// The admin socket.
    pub admin_socket: PathBuf,
    /// Its permission bits.
    pub admin_socket_mode: u32,
    /// How the node is attested when it has not joined yet.
    pub join: Option<JoinConfig>,
    /// How the node proves itself, the first time and each time again, when not by a join token.
    pub node_attestor: Option<NodeAttestorConfig>,
    /// How many callers are served at once.
    pub limits: UdsLimits,
    /// What the Workload API allows.
    pub workload: WorkloadSettings,
    /// The keys that workloads get.
    pub key: KeyAlgorithm,
    /// For how many entries without a caller an SVID is held.
    pub prefetch: usize,
    /// What the `unix` attestor measures.
    pub unix: UnixSettings,
    /// Where `/live`, `/ready` and `/metrics` are served, if anywhere.
    pub http: Option<SocketAddr>,
    /// What is logged.
    pub log_level: Level,
    /// How a log line looks.
    pub log_format: Format,
    /// How long running calls may take to finish when the agent stops.
    pub drain: Duration,
}

/// How a node is attested for the first time.
#[derive(Clone, Debug)]
pub struct JoinConfig {
    /// The token that the server made for this node; none where a `[node_attestor]` proves it.
    pub token: Option<TokenSource>,
    /// How the server is recognised.
    pub pin: Pin,
}

/// Where a join token is. A token never stands in a configuration file.
#[derive(Clone, Debug)]
pub enum TokenSource {
    /// In a file, which is read when it is needed.
    File(PathBuf),
    /// In memory, where server and node are one program.
    Token(JoinToken),
}

impl Config {
    /// Reads the file at `path`.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        config::load(path, read::read)
    }

    /// Reads `text`; `name` stands for the file in errors.
    pub fn parse(name: &str, text: &str) -> Result<Self, ConfigError> {
        config::parse(name, text, read::read)
    }

    /// The defaults for a trust domain, a data folder and a server, as the example has them.
    pub fn new(trust_domain: TrustDomain, data_dir: PathBuf, server: String) -> Self {
        Self {
            data_dir,
            server: Some(server),
            trust_domain: Some(trust_domain),
            workload_socket: PathBuf::from(read::WORKLOAD_SOCKET),
            workload_socket_mode: read::WORKLOAD_SOCKET_MODE,
            admin_socket: PathBuf::from(read::ADMIN_SOCKET),
            admin_socket_mode: read::ADMIN_SOCKET_MODE,
            join: None,
            node_attestor: None,
            limits: UdsLimits::default(),
            workload: WorkloadSettings::default(),
            key: KeyAlgorithm::EcP256,
            prefetch: crate::cache::PREFETCH,
            unix: UnixSettings::complete(),
            http: None,
            log_level: Level::Info,
            log_format: Format::Text,
            drain: read::DRAIN,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_read_and_says_the_defaults() {
        let config = Config::parse("example.toml", EXAMPLE).unwrap();
        let defaults = Config {
            http: Some(([127, 0, 0, 1], 8083).into()),
            ..Config::new(
                "example.org".parse().unwrap(),
                DATA_DIR.into(),
                "server.example.org:8081".into(),
            )
        };
        assert_eq!(format!("{config:?}"), format!("{defaults:?}"));
        let smallest = Config::parse("agent.toml", "").unwrap();
        assert_eq!(smallest.data_dir, Path::new(DATA_DIR));
    }

    #[test]
    fn every_mistake_is_reported_at_once() {
        let text = r#"
            server = "no port"
            trust_domain = "Example.org"
            workload_socket = "/run/muster/workload/api.sock"
            admin_socket = "/run/muster/workload/below/admin.sock"
            admin_socket_mode = "0777"
            sevrer = "x:1"
            [join]
            token_file = "/t"
        "#;
        let error = Config::parse("agent.toml", text).unwrap_err().to_string();
        for key in [
            "server",
            "trust_domain",
            "admin_socket",
            "admin_socket_mode",
            "sevrer",
            "join",
        ] {
            assert!(error.contains(key), "{key} in {error}");
        }
    }
}
