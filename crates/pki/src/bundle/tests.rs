use std::{sync::Arc, time::Duration};

use muster_identity::{Lifetime, TrustDomain, UnixTime};

use super::*;
use crate::{
    local_key::{KeyAlgorithm, LocalKey},
    signer::Signer,
    x509::{RootProfile, ca_subject, issue_root},
};

fn domain(name: &str) -> TrustDomain {
    name.parse().unwrap()
}

fn root(name: &str) -> X509Authority {
    let key = Arc::new(LocalKey::generate(KeyAlgorithm::EcP256).unwrap());
    let now = UnixTime::from_secs(1_800_000_000);
    let lifetime = Lifetime::from_secs(86_400).unwrap();
    let profile = RootProfile {
        trust_domain: domain(name),
        subject: ca_subject(),
        now,
        lifetime,
    };
    issue_root(key as Arc<dyn Signer>, &profile)
        .unwrap()
        .authority()
        .clone()
}

fn jwt(kid: &str, key: &LocalKey) -> JwtAuthority {
    JwtAuthority::new(kid.parse().unwrap(), key.public_key().clone())
}

fn bundle() -> Bundle {
    let mut bundle = Bundle::new(domain("example.org"));
    assert!(bundle.put_x509_authority(root("example.org")));
    let keys = [KeyAlgorithm::EcP384, KeyAlgorithm::Rsa2048].map(|a| LocalKey::generate(a).unwrap());
    bundle.put_jwt_authority(jwt("j", &keys[0])).unwrap();
    bundle.put_wit_authority(jwt("w", &keys[1])).unwrap();
    bundle.set_sequence(Some(7));
    bundle.set_refresh_hint(Some(300));
    bundle
}

#[test]
fn every_form_gives_back_what_went_in() {
    let bundle = bundle();
    let read = Bundle::from_document(domain("example.org"), bundle.to_document().as_bytes()).unwrap();
    assert_eq!(read.bundle, bundle);

    let mut certificates = Bundle::new(domain("example.org"));
    certificates.put_x509_authority(bundle.x509_authorities()[0].clone());
    certificates.put_x509_authority(root("example.org"));
    let pem = certificates.x509_pem();
    let der = certificates.x509_der_concat();
    assert_eq!(
        Bundle::from_pem(domain("example.org"), pem.as_bytes()).unwrap(),
        certificates
    );
    assert_eq!(
        Bundle::from_der_concat(domain("example.org"), &der).unwrap(),
        certificates
    );
    for bytes in [
        pem.as_bytes(),
        der.as_slice(),
        certificates.to_document().as_bytes(),
    ] {
        let read = Bundle::from_file_bytes(domain("example.org"), bytes).unwrap();
        assert_eq!(read.bundle, certificates);
    }
}

#[test]
fn a_document_has_the_members_of_the_standard_and_no_others() {
    let document: serde_json::Value = serde_json::from_str(&bundle().to_document()).unwrap();
    let names = |value: &serde_json::Value| {
        value
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(names(&document), "keys spiffe_refresh_hint spiffe_sequence");
    let keys = document["keys"].as_array().unwrap();
    assert_eq!(names(&keys[0]), "crv kty use x x5c y");
    assert_eq!(names(&keys[1]), "crv kid kty use x y");
    assert_eq!(names(&keys[2]), "e kid kty n use");
    assert_eq!(keys[0]["x5c"].as_array().unwrap().len(), 1);

    let empty = Bundle::new(domain("example.org"));
    assert_eq!(empty.to_document(), r#"{"keys":[]}"#);
}

#[test]
fn workloads_get_the_jwt_keys_and_no_others() {
    let jwks: serde_json::Value = serde_json::from_str(&bundle().jwks_for_workload()).unwrap();
    let keys = jwks["keys"].as_array().unwrap();
    assert_eq!(keys.len(), 1);
    assert_eq!(keys[0]["kid"], "j");
    assert!(keys[0].get("use").is_none());
    assert_eq!(jwks.as_object().unwrap().len(), 1);
}

#[test]
fn one_key_id_names_one_key() {
    let mut bundle = Bundle::new(domain("example.org"));
    let [a, b] = [(); 2].map(|()| LocalKey::generate(KeyAlgorithm::EcP256).unwrap());
    assert_eq!(bundle.put_jwt_authority(jwt("k", &a)), Ok(true));
    assert_eq!(bundle.put_jwt_authority(jwt("k", &a)), Ok(false));
    assert_eq!(bundle.put_jwt_authority(jwt("k", &a).with_taint(true)), Ok(true));
    assert!(bundle.put_jwt_authority(jwt("k", &b)).is_err());
    assert!(bundle.put_wit_authority(jwt("k", &a)).is_err());
    assert_eq!(bundle.jwt_authorities().len(), 1);
}

#[test]
fn files_with_anything_else_in_them_are_refused() {
    let read = |bytes: &[u8]| Bundle::from_file_bytes(domain("example.org"), bytes).map(|_| ());
    let mut bundle = Bundle::new(domain("example.org"));
    bundle.put_x509_authority(root("example.org"));
    let key = "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n";
    let with_key = format!("{}{key}", bundle.x509_pem());
    assert!(matches!(
        read(with_key.as_bytes()),
        Err(BundleFileError::Block { index: 1 })
    ));
    assert!(matches!(read(b""), Err(BundleFileError::Empty)));
    assert!(matches!(read(b"hello"), Err(BundleFileError::Empty)));
    let der = bundle.x509_der_concat();
    for cut in [1, der.len() / 2, der.len() - 1] {
        assert!(read(&der[..cut]).is_err(), "{cut}");
    }
    assert!(matches!(
        read(&[&der[..], b"x"].concat()),
        Err(BundleFileError::Der { index: 1 })
    ));
    assert!(matches!(read(b"[]"), Err(BundleFileError::Document(_))));
}

#[test]
fn a_bundle_answers_for_its_own_trust_domain_only() {
    let own = Arc::new(bundle());
    let mut other = Bundle::new(domain("other.example"));
    // The same root in two bundles stays two things (Federation 4.2).
    other.put_x509_authority(Bundle::x509_authorities(&own)[0].clone());
    let mut set = BundleSet::new(Arc::clone(&own));
    assert_eq!(set.put_federated(Arc::clone(&own)), Err(OwnTrustDomain));
    set.put_federated(Arc::new(other)).unwrap();
    assert_eq!(set.iter().count(), 2);
    let keys = |name: &str| JwtBundleSource::jwt_authorities(&set, &domain(name)).map(<[_]>::len);
    assert_eq!(
        (keys("example.org"), keys("other.example"), keys("third.example")),
        (Some(1), Some(0), None)
    );
    assert!(X509BundleSource::x509_authorities(own.as_ref(), &domain("other.example")).is_none());

    let wanted = [domain("third.example")];
    assert_eq!(set.select(&wanted).federated().len(), 0);
    let wanted = [domain("other.example"), domain("example.org")];
    assert_eq!(set.select(&wanted).federated().len(), 1);
    assert_eq!(
        set.set_own(Arc::new(Bundle::new(domain("other.example")))),
        Err(OwnTrustDomain)
    );
}

#[test]
fn a_bundle_never_goes_back() {
    let held = bundle();
    let with = |sequence: Option<u64>, hint: u64| {
        let mut fetched = held.clone();
        fetched.set_sequence(sequence);
        fetched.set_refresh_hint(Some(hint));
        held.compare_fetched(&fetched)
    };
    assert_eq!(with(Some(7), 300), Succession::Same);
    assert_eq!(with(Some(8), 300), Succession::Newer);
    assert_eq!(with(Some(7), 301), Succession::Uncounted);
    assert_eq!(with(None, 300), Succession::Uncounted);
    assert_eq!(with(Some(6), 301), Succession::Older);
}

#[test]
fn what_is_published_counts_each_change_once() {
    let published = bundle();
    let mut next = published.clone();
    next.set_sequence(None);
    assert_eq!(next.clone().succeed(&published).sequence(), Some(7));
    next.set_refresh_hint(Some(60));
    let next = next.succeed(&published);
    assert_eq!(next.sequence(), Some(8));
    assert_eq!(next.clone().succeed(&next).sequence(), Some(8));
    let mut first = Bundle::new(domain("example.org"));
    first.set_refresh_hint(Some(1));
    assert_eq!(
        first.succeed(&Bundle::new(domain("example.org"))).sequence(),
        Some(1)
    );
}

#[test]
fn refresh_hints_are_followed_within_bounds() {
    let every = |hint| {
        let mut bundle = Bundle::new(domain("example.org"));
        bundle.set_refresh_hint(hint);
        bundle.refresh_interval()
    };
    assert_eq!(every(None), Duration::from_secs(300));
    assert_eq!(every(Some(0)), Duration::from_secs(60));
    assert_eq!(every(Some(600)), Duration::from_secs(600));
    assert_eq!(every(Some(u64::MAX)), Duration::from_secs(86_400));
}

#[test]
fn what_is_left_out_is_reported() {
    let document = br#"{"keys":[7,{"kty":"EC"},{"kty":"oct","k":"AA","use":"jwt-svid","kid":"a"}]}"#;
    let parsed = Bundle::from_document(domain("example.org"), document).unwrap();
    let reasons: Vec<_> = parsed
        .ignored
        .iter()
        .map(|key| (key.index, key.why.to_string()))
        .collect();
    assert_eq!(reasons.len(), 3);
    assert_eq!(reasons[0], (0, "it is not a JWK (RFC 7517 4)".to_owned()));
    assert_eq!(reasons[2].1, "its kty is none of EC, RSA and OKP (TB 4.2.1)");
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
        let _ = Bundle::from_file_bytes(domain("example.org"), &bytes);
        let _ = Bundle::from_der_concat(domain("example.org"), &bytes);
        let _ = BundleMap::from_document(&bytes);
    }

    #[test]
    fn any_numbers_are_read_or_refused(sequence in "-?[0-9]{1,25}(\\.[0-9]{1,3})?") {
        let document = format!(r#"{{"keys":[],"spiffe_sequence":{sequence}}}"#);
        if let Ok(parsed) = Bundle::from_document(domain("example.org"), document.as_bytes()) {
            let number: u64 = sequence.parse().unwrap();
            proptest::prop_assert_eq!(parsed.bundle.sequence(), Some(number));
        }
    }
}
