//! `[oidc]`: where OAuth servers find the keys that check our tokens.

use std::net::SocketAddr;
use std::path::PathBuf;

use muster_identity::TrustDomain;
use muster_runtime::config::{FileMode, Table};

use super::web::{self, Certificate};
use crate::oidc::{DiscoveryConfig, Issuer, Place};
use crate::web::WebSource;

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
        Ok(issuer) => {
            let place = place?;
            refuse_unserved(&mut table, &issuer, &place);
            Some(DiscoveryConfig { issuer, place })
        }
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
    let certificate = web::certificate(table);
    let plaintext = table.or("plaintext", false);
    let FileMode(mode) = table.or("socket_mode", FileMode(MODE));
    match (listen, socket, certificate, plaintext) {
        (Some(listen), None, Certificate::Source(certificate), false) => Some(Place::Tls {
            listen,
            certificate: certificate?,
        }),
        (Some(listen), None, Certificate::None, true) => Some(Place::Plaintext(listen)),
        (None, Some(path), Certificate::None, false) => Some(Place::Socket { path, mode }),
        _ => {
            table.refuse(
                "listen",
                &"as it stands with the others",
                "listen with certificate and key or with acme, listen with plaintext = true behind a proxy, or socket alone",
            );
            None
        }
    }
}

/// A certificate for a name under which nothing is answered is a mistake that shows itself to relying parties alone.
fn refuse_unserved(table: &mut Table, issuer: &Issuer, place: &Place) {
    if let Place::Tls {
        certificate: WebSource::Acme(acme),
        ..
    } = place
        && !issuer.is_host(&acme.domain)
    {
        table.refuse(
            "acme.domain",
            &format!("{:?}", acme.domain),
            "the host of ca.jwt_issuer, or one of oidc.hosts",
        );
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
    fn a_certificate_by_acme_is_for_a_host_that_is_served() {
        let with = |domain: &str, more: &str| {
            read(&format!(
                "[oidc]\nlisten = '[::1]:443'\nhosts = ['b.org']\n{more}[oidc.acme]\ndomain = '{domain}'\nterms_accepted = true"
            ))
        };
        for domain in ["a.org", "B.org"] {
            let Place::Tls { certificate, .. } = with(domain, "").unwrap().unwrap().place else {
                panic!("TLS");
            };
            assert!(matches!(certificate, WebSource::Acme(acme) if acme.domain == domain.to_lowercase()));
        }
        let unserved = with("c.org", "").unwrap_err();
        assert!(unserved.contains("oidc.acme.domain = \"c.org\""), "{unserved}");
        for more in ["certificate = '/c'\nkey = '/k'\n", "plaintext = true\n"] {
            let two = with("a.org", more).unwrap_err();
            assert!(two.contains("oidc.listen"), "{two}");
        }
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
