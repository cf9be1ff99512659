//! `[federation]`: our bundle endpoint, and the trust domains that we federate with.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use muster_identity::{IdPath, SpiffeId, TrustDomain};
use muster_pki::bundle::Scope;
use muster_runtime::config::Table;

use crate::federation::endpoint::{EndpointConfig, EndpointProfile};
use crate::federation::{AddressRule, MOST_PEERS, Profile, Relationship, Source};

use super::web::{self, Certificate, url};

/// Federation with other trust domains. By default nobody is federated with, and nothing listens.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FederationConfig {
    /// Our bundle endpoint.
    pub endpoint: Option<EndpointConfig>,
    /// The authorities of the Web PKI by which endpoints are verified; none for the system's.
    pub ca_file: Option<PathBuf>,
    /// Which addresses may be connected to.
    pub addresses: AddressRule,
    /// Relationships that no API changes.
    pub peers: Vec<ConfiguredPeer>,
}

/// A relationship, and the bundle to begin with.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfiguredPeer {
    /// The relationship.
    pub relationship: Relationship,
    /// The file of a bundle that is taken when none is held.
    pub first_bundle: Option<PathBuf>,
}

#[derive(Clone, Copy)]
enum ProfileName {
    Web,
    Spiffe,
}

const PROFILES: [(&str, ProfileName); 2] = [
    ("https_spiffe", ProfileName::Spiffe),
    ("https_web", ProfileName::Web),
];

pub(super) fn read(table: &mut Table, own: Option<&TrustDomain>) -> FederationConfig {
    let ca_file = table.optional("ca_file");
    let addresses = AddressRule {
        allow_loopback: table.or("allow_loopback", false),
    };
    let endpoint = table
        .optional_table("endpoint")
        .and_then(|mut table| endpoint(&mut table));
    let mut peers: Vec<ConfiguredPeer> = Vec::new();
    let mut names = BTreeSet::new();
    let tables = table.tables("peers");
    if tables.len() > MOST_PEERS {
        table.refuse("peers", &tables.len(), "at most 1000");
    }
    for mut table in tables {
        let Some(peer) = peer(&mut table) else { continue };
        let name = peer.relationship.trust_domain.clone();
        if own == Some(&name) {
            table.refuse(
                "trust_domain",
                &name,
                "another trust domain than the server's own",
            );
        } else if names.insert(name.clone()) {
            peers.push(peer);
        } else {
            table.refuse("trust_domain", &name, "each trust domain once");
        }
    }
    FederationConfig {
        endpoint,
        ca_file,
        addresses,
        peers,
    }
}

fn endpoint(table: &mut Table) -> Option<EndpointConfig> {
    let listen: Option<SocketAddr> = table.required("listen");
    let profile = table.choice("profile", ProfileName::Spiffe, &PROFILES);
    let profile = match (profile, web::certificate(table)) {
        (ProfileName::Spiffe, Certificate::None) => EndpointProfile::Spiffe,
        (ProfileName::Web, Certificate::Source(source)) => EndpointProfile::Web(source?),
        (ProfileName::Spiffe, _) => {
            let expected =
                "\"https_web\" with certificate, key or acme; https_spiffe shows the server's own SVID";
            table.refuse("profile", &"\"https_spiffe\"", expected);
            return None;
        }
        (ProfileName::Web, _) => {
            table.refuse(
                "profile",
                &"\"https_web\"",
                "certificate and key, or acme, beside it",
            );
            return None;
        }
    };
    Some(EndpointConfig {
        listen: listen?,
        profile,
    })
}

fn peer(table: &mut Table) -> Option<ConfiguredPeer> {
    let trust_domain: Option<TrustDomain> = table.required("trust_domain");
    let first_bundle: Option<PathBuf> = table.optional("bundle");
    let file: Option<PathBuf> = table.optional("file");
    let prefixes: Vec<String> = table.list("path_prefixes");
    let scope = scope(table, &prefixes);
    let source = match file {
        Some(file) => {
            for key in ["url", "profile", "endpoint_id"] {
                if table.has(key) {
                    table.refuse(
                        key,
                        &"a value",
                        "nothing beside file, which stands for the endpoint",
                    );
                }
            }
            // Taken, so that the keys are known here.
            let _: (Option<String>, Option<String>, Option<SpiffeId>) = (
                table.optional("url"),
                table.optional("profile"),
                table.optional("endpoint_id"),
            );
            Some(Source::File(file))
        }
        None => endpoint_of(table),
    };
    let relationship = Relationship {
        source: Some(source?),
        scope: scope?,
        ..Relationship::without_source(trust_domain?)
    };
    Some(ConfiguredPeer {
        relationship,
        first_bundle,
    })
}

fn endpoint_of(table: &mut Table) -> Option<Source> {
    let url = url(table, "url", None);
    let endpoint_id: Option<SpiffeId> = table.optional("endpoint_id");
    // Neither is inferred from anything (Federation 7.2).
    if !table.has("profile") {
        let _: Option<String> = table.required("profile");
        return None;
    }
    let profile = match (table.choice("profile", ProfileName::Web, &PROFILES), endpoint_id) {
        (ProfileName::Web, None) => Profile::Web,
        (ProfileName::Spiffe, Some(id)) => Profile::Spiffe(id),
        (ProfileName::Web, Some(id)) => {
            table.refuse("endpoint_id", &id, "nothing: https_web verifies the host's name");
            return None;
        }
        (ProfileName::Spiffe, None) => {
            let _: Option<SpiffeId> = table.required("endpoint_id");
            return None;
        }
    };
    Some(Source::Endpoint { url: url?, profile })
}

fn scope(table: &Table, prefixes: &[String]) -> Option<Scope> {
    let paths: Result<Vec<IdPath>, _> = prefixes.iter().map(|prefix| prefix.parse()).collect();
    let scope = paths.ok().and_then(|paths| Scope::new(paths).ok());
    if scope.is_none() {
        let expected = "at most 32 paths of SPIFFE IDs, such as [\"/payments\"]";
        table.refuse("path_prefixes", &format!("{prefixes:?}"), expected);
    }
    scope
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    fn read(text: &str) -> Result<Config, String> {
        let text = format!("trust_domain = 'a.example'\n{text}");
        Config::parse("server.toml", &text).map_err(|error| error.to_string())
    }

    #[test]
    fn peers_and_both_profiles_are_read() {
        let config = read(
            "[federation]\nallow_loopback = true\n\
             [federation.endpoint]\nlisten = '0.0.0.0:8443'\nprofile = 'https_web'\ncertificate = '/c.pem'\nkey = '/k.pem'\n\
             [[federation.peers]]\ntrust_domain = 'b.example'\nurl = 'https://b.example/'\nprofile = 'https_web'\npath_prefixes = ['/pay']\n\
             [[federation.peers]]\ntrust_domain = 'c.example'\nurl = 'https://c.example:8443/'\nprofile = 'https_spiffe'\nendpoint_id = 'spiffe://c.example/spire/server'\nbundle = '/c.json'\n\
             [[federation.peers]]\ntrust_domain = 'd.example'\nfile = '/d.json'\n",
        );
        let federation = config.unwrap().federation;
        assert!(federation.endpoint.is_some() && federation.addresses.allow_loopback);
        assert_eq!(federation.peers.len(), 3);
    }

    #[test]
    fn nothing_is_inferred_and_each_mistake_is_named() {
        let cases = [
            (
                "[[federation.peers]]\nurl = 'https://b.example/'\nprofile = 'https_web'",
                "trust_domain",
            ),
            (
                "[[federation.peers]]\ntrust_domain = 'b.example'\nprofile = 'https_web'",
                "url",
            ),
            (
                "[[federation.peers]]\ntrust_domain = 'b.example'\nurl = 'https://b.example/'",
                "profile",
            ),
            (
                "[[federation.peers]]\ntrust_domain = 'b.example'\nurl = 'https://b.example/'\nprofile = 'https_spiffe'",
                "endpoint_id",
            ),
            (
                "[[federation.peers]]\ntrust_domain = 'b.example'\nurl = 'http://b.example/'\nprofile = 'https_web'",
                "https",
            ),
            (
                "[[federation.peers]]\ntrust_domain = 'b.example'\nurl = 'https://u:p@b.example/'\nprofile = 'https_web'",
                "user",
            ),
            (
                "[[federation.peers]]\ntrust_domain = 'a.example'\nurl = 'https://b.example/'\nprofile = 'https_web'",
                "own",
            ),
            (
                "[[federation.peers]]\ntrust_domain = 'b.example'\nfile = '/b'\nurl = 'https://b.example/'",
                "file",
            ),
            (
                "[federation.endpoint]\nlisten = '0.0.0.0:1'\nprofile = 'https_web'",
                "certificate",
            ),
            (
                "[federation.endpoint]\nlisten = '0.0.0.0:1'\nprofile = 'https_web'\n[federation.endpoint.acme]\ndomain = 'x.example'",
                "terms",
            ),
        ];
        for (text, named) in cases {
            let error = read(text).unwrap_err();
            assert!(error.contains(named), "{text}: {error}");
        }
    }
}
