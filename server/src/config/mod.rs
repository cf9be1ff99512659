//! The server's configuration: one TOML file, read once.
//!
//! `config/example.toml` is what `muster-server config example` prints. It holds every key with its default, and a test reads it.

mod changes;
mod federation;
mod node_attestors;
mod oidc;
mod publishers;
mod read;
mod upstream;
mod web;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_identity::{Lifetime, SpiffeId, TrustDomain};
use muster_pki::KeyAlgorithm;
use muster_runtime::config::{self, ConfigError};
use muster_runtime::logging::{Format, Level};
use muster_transport::TlsLimits;
use muster_upstream_authorities::UpstreamConfig;

use crate::api::limits::LimitSettings;
use crate::ca::{Lifetimes, OverCap, Tokens, Wildcards};
use crate::node_attestors::NodeAttestorsConfig;
use crate::nodes::Pruning;
use crate::oidc::DiscoveryConfig;

pub use publishers::PublisherConfig;

pub use federation::{ConfiguredPeer, FederationConfig};

/// The commented example, with the defaults.
pub const EXAMPLE: &str = include_str!("example.toml");

/// Everything that a server is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The trust domain that it serves.
    pub trust_domain: TrustDomain,
    /// Where its state lies: `store/`, `keys/`, `audit/`.
    pub data_dir: PathBuf,
    /// The TCP door, for nodes and remote administrators.
    pub listen: SocketAddr,
    /// The admin socket.
    pub admin_socket: PathBuf,
    /// Its permission bits.
    pub admin_socket_mode: u32,
    /// SPIFFE IDs that are administrators without an entry.
    pub admin_ids: BTreeSet<SpiffeId>,
    /// The authorities.
    pub ca: CaConfig,
    /// How nodes may prove themselves beside join tokens.
    pub node_attestors: NodeAttestorsConfig,
    /// Who signs our authorities; without it they sign themselves.
    pub upstream: Option<UpstreamConfig>,
    /// Other trust domains.
    pub federation: FederationConfig,
    /// Rate limits.
    pub limits: LimitSettings,
    /// How many connections the TCP door holds.
    pub connections: TlsLimits,
    /// Which nodes are forgotten.
    pub pruning: Pruning,
    /// Threads that use keys; 0 means one for each processor.
    pub signing_threads: usize,
    /// How many signatures may wait for a thread. Past it callers are told to come back.
    pub signing_queue: usize,
    /// Where `/live`, `/ready` and `/metrics` are served, if anywhere.
    pub http: Option<SocketAddr>,
    /// Where OAuth servers find the keys that check our tokens.
    pub oidc: Option<DiscoveryConfig>,
    /// Where the bundle is laid, beside being served.
    pub publishers: Vec<PublisherConfig>,
    /// What is logged.
    pub log_level: Level,
    /// How a log line looks.
    pub log_format: Format,
    /// How long running calls may take to finish when the server stops.
    pub drain: Duration,
}

/// What authorities are, and how long what they sign may live.
#[derive(Clone, Debug, PartialEq)]
pub struct CaConfig {
    /// How long an authority lives.
    pub lifetime: Lifetime,
    /// The key that signs certificates.
    pub x509_key: KeyAlgorithm,
    /// The key that signs tokens.
    pub jwt_key: KeyAlgorithm,
    /// Whether tokens are signed, and by which issuer.
    pub tokens: Tokens,
    /// Lifetimes by default and at most.
    pub lifetimes: Lifetimes,
    /// Whether new entries and minted certificates may have DNS names with a wildcard.
    pub wildcards: Wildcards,
    /// How often verifiers are asked to fetch the bundle again.
    pub refresh_hint: Duration,
    /// The file with the key that seals the authorities' keys; made at the first start. Without it `keys/sealing.key` in the data folder.
    pub sealing_key: Option<PathBuf>,
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

    /// The defaults for a trust domain and a data folder, as the example has them.
    pub fn new(trust_domain: TrustDomain, data_dir: PathBuf) -> Self {
        Self {
            trust_domain,
            data_dir,
            listen: SocketAddr::from(([0, 0, 0, 0], read::PORT)),
            admin_socket: PathBuf::from(read::ADMIN_SOCKET),
            admin_socket_mode: read::ADMIN_SOCKET_MODE,
            admin_ids: BTreeSet::new(),
            ca: CaConfig::default(),
            node_attestors: NodeAttestorsConfig::default(),
            upstream: None,
            federation: FederationConfig::default(),
            limits: LimitSettings {
                attestation: true,
                signing: true,
            },
            connections: TlsLimits::default(),
            pruning: read::NOBODY,
            signing_threads: 0,
            signing_queue: read::SIGNING_QUEUE,
            http: None,
            oidc: None,
            publishers: Vec::new(),
            log_level: Level::Info,
            log_format: Format::Text,
            drain: read::DRAIN,
        }
    }
}

impl Default for CaConfig {
    fn default() -> Self {
        let [lifetime, x509, jwt, max_jwt] =
            [read::CA, read::X509_SVID, read::JWT_SVID, read::MAX_JWT_SVID].map(read::lifetime);
        Self {
            lifetime,
            x509_key: KeyAlgorithm::EcP256,
            jwt_key: KeyAlgorithm::EcP256,
            tokens: Tokens::Signed { issuer: None },
            lifetimes: Lifetimes {
                x509_svid: x509,
                jwt_svid: jwt,
                node: x509,
                max_x509_svid: read::sixth(lifetime),
                max_jwt_svid: max_jwt,
                over_cap: OverCap::Cut,
            },
            wildcards: Wildcards::Refuse,
            refresh_hint: read::REFRESH_HINT,
            sealing_key: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_read_and_says_the_defaults() {
        let config = Config::parse("example.toml", EXAMPLE).unwrap();
        let mut defaults = Config::new("example.org".parse().unwrap(), "/var/lib/muster/server".into());
        // The example opens the door for probes, which is closed by default.
        defaults.http = Some(SocketAddr::from(([127, 0, 0, 1], 8082)));
        assert_eq!(config, defaults);
    }

    #[test]
    fn every_key_is_in_the_example() {
        let text = "trust_domain = 'a.org'\nx = 1\n[ca]\nx = 1\n[nodes]\nx = 1\n[node_attestors]\nx = 1\n[node_attestors.x509pop]\nx = 1\n[[node_attestors.k8s_psat.clusters]]\nx = 1\n[limits]\nx = 1\n[signing]\nx = 1\n[federation]\nx = 1\n[federation.endpoint]\nlisten = 'x'\nx = 1\n[federation.endpoint.acme]\nx = 1\n[[federation.peers]]\nx = 1\n[oidc]\nx = 1\n[oidc.acme]\nx = 1\n[http]\nx = 1\n[log]\nx = 1\n[upstream_authority.disk]\nx = 1\n[upstream_authority.spire]\nx = 1\n[upstream_authority.vault]\nx = 1\n[upstream_authority.vault.token]\nx = 1\n[upstream_authority.vault.approle]\nx = 1\n[upstream_authority.vault.cert]\nx = 1\n[upstream_authority.vault.kubernetes]\nx = 1";
        let error = Config::parse("t", text).unwrap_err().to_string();
        let known = error
            .lines()
            .filter_map(|line| line.split_once("known here: "))
            .flat_map(|(_, keys)| keys.split(", "));
        for key in known {
            assert!(EXAMPLE.contains(key), "{key} is not in the example");
        }
    }

    #[test]
    fn mistakes_are_reported_together() {
        let text = "trust_domain = 'Example'\nlisten = 8081\nadmin_ids = ['spiffe://a/b', 'x']\n[ca]\nlifetime = '1h'\nx509_svid = '45m'\nkey = 'rsa'";
        let error = Config::parse("server.toml", text).unwrap_err().to_string();
        let expected = "\
server.toml: 5 mistakes
  trust_domain = \"Example\": expected a trust domain name in lower case, such as \"example.org\"
  listen = 8081: expected an address with a port, such as \"0.0.0.0:8081\" or \"[::1]:8081\"
  admin_ids[1] = \"x\": expected a SPIFFE ID, such as \"spiffe://example.org/billing\"
  ca.key = \"rsa\": expected one of \"ec-p256\", \"ec-p384\", \"rsa-2048\", \"rsa-4096\"
  ca.x509_svid = 2700s: expected at most 1800s with this ca.lifetime, so that no SVID is cut short by the end of its authority";
        assert_eq!(error, expected);
    }
}
