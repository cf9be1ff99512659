//! Part 1: SPIFFE IDs, alone, as the URI name of a certificate and as the subject of a token.

use std::sync::Arc;

use muster_identity::{SpiffeId, UnixTime};
use muster_pki::{
    KeyAlgorithm, LocalKey, Signer as _,
    bundle::{Bundle, BundleSet},
    jws::{Algorithm, sign_compact},
    jwt::{JwtAuthority, verify_jwt_svid},
    x509::{X509Authority, verify_x509_svid},
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose, SanType,
    string::Ia5String,
};
use serde_json::{Value, json};

use crate::book::{Book, VECTORS, list, text};

/// 2026-06-01, at which the vectors are judged.
const NOW: i64 = 1_780_272_000;

pub(crate) fn judge(book: &mut Book) {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let forms = Forms::new();
    for case in list(&vectors["spiffe_ids"]) {
        book.case(text(case, "id"), || {
            alone(case);
            // A workload's name has a path, and the bundle below is that of example.org.
            let good = text(case, "expect") == "valid"
                && case["trust_domain"] == "example.org"
                && case["path"] != "";
            forms.in_a_certificate(text(case, "input"), good);
            forms.in_a_token(text(case, "input"), good);
        });
    }
}

fn alone(case: &Value) {
    let input = text(case, "input");
    match (text(case, "expect"), input.parse::<SpiffeId>()) {
        ("valid", Ok(id)) => {
            assert_eq!(id.to_string(), input, "printed as it was read");
            assert_eq!(id.trust_domain().as_str(), text(case, "trust_domain"));
            assert_eq!(id.path().as_str(), text(case, "path"));
        }
        ("invalid", Err(_)) => {}
        (expected, got) => panic!("expected {expected}, got {got:?}"),
    }
}

/// An authority of example.org that signs any name as it is written.
struct Forms {
    root: CertifiedIssuer<'static, KeyPair>,
    token_key: LocalKey,
    bundles: BundleSet,
}

impl Forms {
    fn new() -> Self {
        let mut root = CertificateParams::default();
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        root.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let root = CertifiedIssuer::self_signed(root, KeyPair::generate().unwrap()).unwrap();
        let token_key = LocalKey::generate(KeyAlgorithm::EcP256).unwrap();
        let mut bundle = Bundle::new("example.org".parse().unwrap());
        bundle.put_x509_authority(X509Authority::from_der(root.der()).unwrap());
        let authority = JwtAuthority::new("key".parse().unwrap(), token_key.public_key().clone());
        bundle.put_jwt_authority(authority).unwrap();
        Self {
            bundles: BundleSet::new(Arc::new(bundle)),
            root,
            token_key,
        }
    }

    fn in_a_certificate(&self, name: &str, good: bool) {
        // What is no IA5String has no place in a URI name.
        let Ok(uri) = Ia5String::try_from(name) else {
            return assert!(!good);
        };
        let mut leaf = CertificateParams::default();
        leaf.is_ca = IsCa::ExplicitNoCa;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.subject_alt_names = vec![SanType::URI(uri)];
        let leaf = leaf.signed_by(&KeyPair::generate().unwrap(), &self.root).unwrap();
        let verdict = verify_x509_svid(&[leaf.der().clone()], &self.bundles, UnixTime::from_secs(NOW));
        assert_eq!(verdict.is_ok(), good, "as a URI name: {verdict:?}");
    }

    fn in_a_token(&self, name: &str, good: bool) {
        let claims = json!({ "sub": name, "aud": ["conformance"], "exp": 4_000_000_000_i64 }).to_string();
        let token = sign_compact(
            &self.token_key,
            Algorithm::Es256,
            Some("key"),
            None,
            claims.as_bytes(),
        );
        let token = token.unwrap();
        let verdict = verify_jwt_svid(&token, &self.bundles, "conformance", UnixTime::from_secs(NOW));
        assert_eq!(verdict.is_ok(), good, "as the subject of a token: {verdict:?}");
    }
}
