//! `[oidc]`: where OAuth servers find the keys that check our tokens.

use std::net::SocketAddr;
use std::path::PathBuf;

use muster_identity::TrustDomain;
use muster_runtime::config::{FileMode, Table};

use crate::oidc::{DiscoveryConfig, Issuer, Place};

/// The documents are public, and whoever may open the socket is a proxy of the operator's choice.
const MODE: u32 = 0o666;

/// Reads the table, if it is there. `tokens_issuer` is what our tokens bear.
pub(super) fn read(
    table: &mut Table,
    tokens_issuer: Option<&str>,
    trust_domain: Option<&TrustDomain>,
) -> Option<DiscoveryConfig> {
    let mut table = table.optional_table("oidc")?;
    let place = place(&mut table);
    let hosts = table.list("hosts");
    let keys_url: Option<String> = table.optional("jwks_uri");
    let issuer = match tokens_issuer {
        Some(issuer) => issuer.to_owned(),
        None => format!("https://{}", trust_domain?),
    };
    match Issuer::new(&issuer, hosts, keys_url) {
        Ok(issuer) => Some(DiscoveryConfig {
            issuer,
            place: place?,
        }),
        Err(error) => {
            let expected = format!("a ca.jwt_issuer that can be discovered: {error}");
            table.refuse("issuer", &format!("{issuer:?}"), &expected);
            None
        }
    }
}

fn place(table: &mut Table) -> Option<Place> {
    let (listen, socket): (Option<SocketAddr>, Option<PathBuf>) =
        (table.optional("listen"), table.optional("socket"));
    let (certificate, key) = (table.optional("certificate"), table.optional("key"));
    let plaintext = table.or("plaintext", false);
    let FileMode(mode) = table.or("socket_mode", FileMode(MODE));
    match (listen, socket, certificate, key, plaintext) {
        (Some(listen), None, Some(certificate), Some(key), false) => Some(Place::Tls {
            listen,
            certificate,
            key,
        }),
        (Some(listen), None, None, None, true) => Some(Place::Plaintext(listen)),
        (None, Some(path), None, None, false) => Some(Place::Socket { path, mode }),
        _ => {
            table.refuse(
                "listen",
                &"as it stands with the others",
                "listen with certificate and key, listen with plaintext = true behind a proxy, or socket alone",
            );
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    fn read(text: &str) -> Result<Option<DiscoveryConfig>, String> {
        let text = format!("trust_domain = 'a.org'\n{text}");
        let config = Config::parse("server.toml", &text);
        config
            .map(|config| config.oidc)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_issuer_is_what_tokens_bear() {
        let by_default = read("[oidc]\nsocket = '/run/oidc.sock'").unwrap().unwrap();
        assert_eq!(by_default.issuer.url(), "https://a.org");
        let text = "[ca]\njwt_issuer = 'https://oidc.a.org/x'\n[oidc]\nlisten = '[::1]:443'\ncertificate = '/c'\nkey = '/k'";
        assert_eq!(read(text).unwrap().unwrap().issuer.url(), "https://oidc.a.org/x");
        assert!(read("").unwrap().is_none());
    }

    #[test]
    fn a_place_that_is_none_and_an_issuer_that_can_not_be_found_are_refused() {
        for text in [
            "[oidc]\nhosts = ['a']",
            "[oidc]\nlisten = '[::1]:443'",
            "[oidc]\nlisten = '[::1]:443'\nkey = '/k'",
            "[oidc]\nlisten = '[::1]:443'\nsocket = '/s'",
            "[oidc]\nsocket = '/s'\nplaintext = true",
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains("oidc.listen"), "{error}");
        }
        let error = read("[ca]\njwt_issuer = 'spiffe://a.org'\n[oidc]\nsocket = '/s'").unwrap_err();
        assert!(error.contains("oidc.issuer = \"spiffe://a.org\""), "{error}");
    }
}
