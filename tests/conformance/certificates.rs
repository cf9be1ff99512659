//! Part 2: X.509-SVIDs, with real certificates.

use std::collections::HashMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use muster_identity::{TrustDomain, UnixTime};
use muster_pki::x509::{CertificateDer, X509Authority, X509BundleSource, verify_x509_svid};
use serde_json::Value;

use crate::book::{Book, VECTORS, list, text};

struct Bundles(HashMap<TrustDomain, Vec<X509Authority>>);

impl X509BundleSource for Bundles {
    fn x509_authorities(&self, trust_domain: &TrustDomain) -> Option<&[X509Authority]> {
        self.0.get(trust_domain).map(Vec::as_slice)
    }
}

pub(crate) fn judge(book: &mut Book) {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    for case in list(&vectors["x509_svids"]) {
        book.case(text(case, "id"), || chain(case));
    }
}

fn chain(case: &Value) {
    let chain: Vec<_> = list(&case["chain_der"])
        .iter()
        .map(|one| CertificateDer::from(der(one)))
        .collect();
    let bundles = case["bundles"]
        .as_object()
        .expect("bundles by trust domain")
        .iter();
    let bundles = bundles.map(|(name, authorities)| {
        // What is no authority is not let into a bundle; the case then fails for want of one (XS-72).
        let authorities = list(authorities)
            .iter()
            .filter_map(|one| X509Authority::from_der(&der(one)).ok());
        (name.parse().expect("a trust domain"), authorities.collect())
    });
    let at = text(case, "validation_time");
    let at = time::OffsetDateTime::parse(at, &time::format_description::well_known::Rfc3339).expect("a time");
    let verdict = verify_x509_svid(
        &chain,
        &Bundles(bundles.collect()),
        UnixTime::from_secs(at.unix_timestamp()),
    );
    match (text(case, "expect"), verdict) {
        ("valid", Ok(_)) => {}
        ("invalid", Err(error)) => assert!(
            !error.section().is_empty(),
            "a refusal names the section: {error}"
        ),
        (expected, got) => panic!("expected {expected}, got {got:?}"),
    }
}

fn der(value: &Value) -> Vec<u8> {
    STANDARD.decode(value.as_str().expect("base64")).expect("base64")
}
