use muster_identity::TrustDomain;
use muster_pki::bundle::{Bundle, BundleMap};

use crate::Target;

const VECTORS: &str = include_str!("../../../tests/conformance/spiffe_vectors.json");
const WORDS: &[&str] = &[
    "\"keys\":[",
    "\"use\":\"x509-svid\"",
    "\"use\":\"jwt-svid\"",
    "\"x5c\":[",
    "\"kid\":\"a\"",
    "\"spiffe_sequence\":",
    "18446744073709551616",
    "-1",
    "1.5",
    "\"trust_domains\":{",
    "\\u0061",
    "null",
];

fn name() -> TrustDomain {
    "example.org".parse().expect("a trust domain")
}

/// The documents of a list of the conformance vectors.
fn vectors(part: &str) -> Vec<Vec<u8>> {
    let all: serde_json::Value = serde_json::from_str(VECTORS).expect("the vectors are JSON");
    let cases = all[part].as_array().cloned().unwrap_or_default();
    cases
        .iter()
        .filter_map(|case| Some(case["doc"].as_str()?.as_bytes().to_vec()))
        .collect()
}

/// What is read is printed so that it means the same.
pub(super) const DOCUMENTS: Target = Target {
    name: "bundle-documents",
    run: |input| {
        if let Ok(read) = Bundle::from_document(name(), input) {
            let again = Bundle::from_document(name(), read.bundle.to_document().as_bytes())
                .expect("what we write we read");
            assert_eq!(again.bundle, read.bundle);
            assert!(again.ignored.is_empty());
        }
    },
    seeds: || vectors("bundles"),
    words: WORDS,
};

pub(super) const MAPS: Target = Target {
    name: "bundle-maps",
    run: |input| {
        if let Ok((read, _)) = BundleMap::from_document(input) {
            let (again, _) =
                BundleMap::from_document(read.to_document().as_bytes()).expect("what we write we read");
            assert_eq!(again, read);
        }
    },
    seeds: || vectors("bundle_maps"),
    words: WORDS,
};

/// What an operator carries over by hand: PEM, or a document.
pub(super) const FILES: Target = Target {
    name: "bundle-files",
    run: |input| {
        let _ = Bundle::from_file_bytes(name(), input);
        let _ = Bundle::from_der_concat(name(), input);
        if let Ok(read) = Bundle::from_pem(name(), input) {
            let again = Bundle::from_pem(name(), read.x509_pem().as_bytes()).expect("what we write we read");
            assert_eq!(again.x509_authorities(), read.x509_authorities());
        }
    },
    seeds: || {
        let documents = vectors("bundles");
        let bundles = documents
            .iter()
            .filter_map(|document| Bundle::from_document(name(), document).ok());
        let bundles: Vec<_> = bundles
            .map(|read| read.bundle)
            .filter(|bundle| !bundle.is_empty())
            .take(3)
            .collect();
        let pem = bundles.iter().map(|bundle| bundle.x509_pem().into_bytes());
        pem.chain(bundles.iter().map(Bundle::x509_der_concat)).collect()
    },
    words: &[
        "-----BEGIN CERTIFICATE-----\n",
        "-----END CERTIFICATE-----\n",
        "-----BEGIN PRIVATE KEY-----\n",
        "{",
    ],
};
