//! Where a door of the Web PKI has its certificate from: `certificate` and `key`, or a table `acme`, beside the door's own keys.

use muster_runtime::config::Table;

use crate::federation::EndpointUrl;
use crate::web::{AcmeConfig, WebSource};

/// Let's Encrypt, as SPIRE has it.
const DIRECTORY: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// What a door's table says of a certificate.
pub(super) enum Certificate {
    /// Nothing.
    None,
    /// One source; none when a mistake in it was told.
    Source(Option<WebSource>),
    /// Half of a source, or two.
    Unclear,
}

/// Reads it.
pub(super) fn certificate(table: &mut Table) -> Certificate {
    let (certificate, key) = (table.optional("certificate"), table.optional("key"));
    let acme = table.optional_table("acme").map(|mut table| acme(&mut table));
    match (certificate, key, acme) {
        (None, None, None) => Certificate::None,
        (Some(certificate), Some(key), None) => {
            Certificate::Source(Some(WebSource::Files { certificate, key }))
        }
        (None, None, Some(acme)) => Certificate::Source(acme.map(WebSource::Acme)),
        _ => Certificate::Unclear,
    }
}

fn acme(table: &mut Table) -> Option<AcmeConfig> {
    let directory = url(table, "directory", Some(DIRECTORY));
    let domain = table.required::<String>("domain");
    let email = table.optional("email");
    let ca_file = table.optional("ca_file");
    if !table.or("terms_accepted", false) {
        let expected = "true: your word that you accept the terms of the certificate authority";
        table.refuse("terms_accepted", &false, expected);
    }
    Some(AcmeConfig {
        directory: directory?,
        domain: domain?.to_ascii_lowercase(),
        email,
        ca_file,
    })
}

/// An https URL under `key`, which may be left out when there is a default.
pub(super) fn url(table: &mut Table, key: &'static str, default: Option<&str>) -> Option<EndpointUrl> {
    let text: String = match default {
        Some(default) => table.or(key, default.to_owned()),
        None => table.required(key)?,
    };
    let parsed = text.parse();
    if let Err(error) = &parsed {
        let expected = format!("an https URL with a host and no user ({error})");
        table.refuse(key, &format!("{text:?}"), &expected);
    }
    parsed.ok()
}
