//! Parts 1 and 2 of the conformance suite: SPIFFE IDs and X.509-SVIDs, with real certificates.
//! Every case of every level is run; what the standards leave open (`policy`) is decided as the vectors say.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use muster_identity::{SpiffeId, TrustDomain, UnixTime};
use muster_pki::x509::{CertificateDer, X509Authority, X509BundleSource, verify_x509_svid};
use serde_json::Value;

const VECTORS: &str = include_str!("../../../tests/conformance/spiffe_vectors.json");

struct Bundles(HashMap<TrustDomain, Vec<X509Authority>>);

impl X509BundleSource for Bundles {
    fn x509_authorities(&self, trust_domain: &TrustDomain) -> Option<&[X509Authority]> {
        self.0.get(trust_domain).map(Vec::as_slice)
    }
}

fn cases(part: &str) -> Vec<Value> {
    let all: Value = serde_json::from_str(VECTORS).expect("the vectors are JSON");
    all[part].as_array().expect("a list of cases").clone()
}

fn text<'a>(case: &'a Value, key: &str) -> &'a str {
    case[key]
        .as_str()
        .unwrap_or_else(|| panic!("{key} of {}", case["id"]))
}

fn der(value: &Value) -> Vec<u8> {
    STANDARD.decode(value.as_str().expect("base64")).expect("base64")
}

#[test]
fn every_spiffe_id_case_is_decided_as_the_standard_does() {
    let cases = cases("spiffe_ids");
    assert!(cases.len() >= 71);
    for case in cases {
        let (id, input) = (text(&case, "id"), text(&case, "input"));
        match (text(&case, "expect"), input.parse::<SpiffeId>()) {
            ("valid", Ok(parsed)) => {
                assert_eq!(parsed.to_string(), input, "{id}: printed as it was read");
                assert_eq!(
                    parsed.trust_domain().as_str(),
                    text(&case, "trust_domain"),
                    "{id}"
                );
                assert_eq!(parsed.path().as_str(), text(&case, "path"), "{id}");
            }
            ("invalid", Err(_)) => {}
            (expected, got) => panic!("{id} ({}): expected {expected}, got {got:?}", text(&case, "why")),
        }
    }
}

#[test]
fn every_x509_svid_case_is_decided_as_the_standard_does() {
    let cases = cases("x509_svids");
    assert!(cases.len() >= 62);
    for case in cases {
        let id = text(&case, "id");
        let chain: Vec<_> = case["chain_der"]
            .as_array()
            .expect("a chain")
            .iter()
            .map(|certificate| CertificateDer::from(der(certificate)))
            .collect();
        let mut bundles = Bundles(HashMap::new());
        for (name, authorities) in case["bundles"].as_object().expect("bundles") {
            // What is no authority is not let into a bundle; the case then fails for want of one (XS-72).
            let authorities = authorities.as_array().expect("authorities").iter();
            let authorities = authorities
                .filter_map(|one| X509Authority::from_der(&der(one)).ok())
                .collect();
            bundles
                .0
                .insert(name.parse().expect("a trust domain"), authorities);
        }
        let now = moment(text(&case, "validation_time"));
        match (text(&case, "expect"), verify_x509_svid(&chain, &bundles, now)) {
            ("valid", Ok(_)) => {}
            ("invalid", Err(error)) => assert!(!error.section().is_empty(), "{id}"),
            (expected, got) => {
                panic!(
                    "{id} ({}, {}): expected {expected}, got {got:?}",
                    text(&case, "level"),
                    text(&case, "why")
                )
            }
        }
    }
}

#[test]
fn a_spiffe_id_that_is_refused_alone_is_refused_inside_a_certificate() {
    // Each text of part 1 that fits an IA5String, as the one URI name of a certificate that is right otherwise.
    for case in cases("spiffe_ids") {
        let input = text(&case, "input");
        let Ok(uri) = rcgen::string::Ia5String::try_from(input) else {
            continue;
        };
        let chain = common::chain_with_uri(uri);
        let bundles = Bundles(HashMap::from([(
            "example.org".parse().expect("a trust domain"),
            vec![X509Authority::from_der(&chain.1).expect("an authority")],
        )]));
        let verified = verify_x509_svid(&[chain.0], &bundles, UnixTime::from_secs(1_780_272_000));
        let expected = text(&case, "expect") == "valid"
            && text(&case, "trust_domain") == "example.org"
            && !text(&case, "path").is_empty();
        assert_eq!(verified.is_ok(), expected, "{}: {verified:?}", text(&case, "id"));
    }
}

fn moment(text: &str) -> UnixTime {
    let at = time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).expect(text);
    UnixTime::from_secs(at.unix_timestamp())
}

mod common {
    use muster_pki::x509::CertificateDer;
    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose, SanType,
        string::Ia5String,
    };

    /// A leaf with this URI name, and the root that signed it.
    pub(crate) fn chain_with_uri(uri: Ia5String) -> (CertificateDer<'static>, CertificateDer<'static>) {
        let mut root = CertificateParams::default();
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        root.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let root = CertifiedIssuer::self_signed(root, KeyPair::generate().expect("a key")).expect("a root");
        let mut leaf = CertificateParams::default();
        leaf.is_ca = IsCa::ExplicitNoCa;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.subject_alt_names = vec![SanType::URI(uri)];
        let key = KeyPair::generate().expect("a key");
        let leaf = leaf.signed_by(&key, &root).expect("a leaf");
        (leaf.der().clone(), root.der().clone())
    }
}
