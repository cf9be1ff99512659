//! From a certificate that was verified to the node's name and selectors.

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use muster_identity::TrustDomain;
use muster_pki::x509::{Certificate, VerifiedChain};
use muster_plugin_api::{AttestedNode, Reattestation};

use super::KIND;
use crate::path_template::{PathTemplate, TemplateError, Values};

/// What the templates of this kind may name.
pub(super) const VARIABLES: &[&str] = &[
    "PluginName",
    "TrustDomain",
    "Fingerprint",
    "Subject.CommonName",
    "SerialNumberHex",
    "SVIDPathTrimmed",
    "URISanSelectors.*",
];

/// A node that holds the key of `chain`. `svid_path` is what is left of an SVID's path, in that mode.
pub(super) fn node(
    trust_domain: &TrustDomain,
    template: &PathTemplate,
    chain: &VerifiedChain,
    svid_path: Option<&str>,
) -> Result<AttestedNode, TemplateError> {
    let leaf = chain.leaf();
    let names = named(leaf, trust_domain);
    let (fingerprint, serial) = (fingerprint(leaf), serial(leaf));
    let mut values = Values::default();
    values.segment("PluginName", Some(KIND));
    values.segment("TrustDomain", Some(trust_domain.as_str()));
    values.segment("Fingerprint", Some(&fingerprint));
    values.segment("Subject.CommonName", leaf.common_name());
    values.segment("SerialNumberHex", Some(&serial));
    values.path("SVIDPathTrimmed", svid_path);
    for (key, value) in &names {
        // A key that stands there twice has no one value.
        let alone = names.iter().filter(|(other, _)| other == key).count() == 1;
        values.segment(&format!("URISanSelectors.{key}"), alone.then_some(value));
    }
    let path = template.expand(&values)?;

    let mut selectors = Vec::new();
    selectors.extend(leaf.common_name().map(|name| format!("subject:cn:{name}")));
    selectors.extend(
        chain
            .issuers()
            .map(|issuer| format!("ca:fingerprint:{}", self::fingerprint(issuer))),
    );
    selectors.push(format!("serialnumber:{serial}"));
    selectors.extend(names.iter().map(|(key, value)| format!("san:{key}:{value}")));
    Ok(AttestedNode::new(KIND, path, selectors, Reattestation::Possible))
}

/// SHA-1 over the certificate, in hexadecimal: SPIRE's name for it. It is no proof of anything; what is named was verified before.
fn fingerprint(certificate: &Certificate) -> String {
    hex(digest(&SHA1_FOR_LEGACY_USE_ONLY, certificate.der()).as_ref())
}

fn serial(certificate: &Certificate) -> String {
    match certificate.serial().to_hex() {
        zero if zero.is_empty() => "00".to_owned(),
        hex => hex,
    }
}

/// Keys and values of the certificate's URIs `x509pop://TRUST-DOMAIN/KEY/VALUE`. One with an escape, a query or a fragment says nothing:
/// two readers could read two things.
fn named(certificate: &Certificate, trust_domain: &TrustDomain) -> Vec<(String, String)> {
    let prefix = format!("{KIND}://{trust_domain}/");
    let own = certificate
        .uris()
        .iter()
        .filter_map(|uri| uri.strip_prefix(&prefix));
    own.filter(|path| !path.contains(['%', '?', '#']))
        .filter_map(|path| path.trim_matches('/').split_once('/'))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            write!(text, "{byte:02x}").expect("a text grows");
            text
        })
}
