use std::sync::{Arc, LazyLock};

use muster_identity::{Lifetime, UnixTime};
use muster_pki::{
    KeyAlgorithm, LocalKey, Signer as _,
    bundle::{Bundle, BundleSet},
    x509::{
        Certificate, CertificateDer, Csr, IssuingAuthority, RootProfile, Subject, X509Authority, X509Svid,
        X509SvidProfile, ca_subject, create_csr, issue_root, issue_x509_svid, verify_x509_svid,
    },
};

use crate::Target;

/// When everything here is valid.
pub(super) const NOW: i64 = 1_780_272_000;

struct World {
    authority: IssuingAuthority,
    svid: X509Svid,
    bundles: BundleSet,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let key = || Arc::new(LocalKey::generate(KeyAlgorithm::EcP256).expect("randomness"));
    let (now, lifetime) = (
        UnixTime::from_secs(NOW),
        Lifetime::from_secs(86_400).expect("not zero"),
    );
    let trust_domain: muster_identity::TrustDomain = "example.org".parse().expect("a trust domain");
    let root = RootProfile {
        trust_domain: trust_domain.clone(),
        subject: ca_subject(),
        now,
        lifetime,
    };
    let authority = issue_root(key(), &root).expect("a root");
    let profile = X509SvidProfile {
        id: "spiffe://example.org/w".parse().expect("a SPIFFE ID"),
        public_key: key().public_key().clone(),
        dns_names: vec!["w.example.org".parse().expect("a name")],
        subject: Subject::Usual,
        now,
        lifetime,
    };
    let svid = issue_x509_svid(&authority, &profile).expect("a leaf");
    let mut bundle = Bundle::new(trust_domain);
    bundle.put_x509_authority(authority.authority().clone());
    World {
        authority,
        svid,
        bundles: BundleSet::new(Arc::new(bundle)),
    }
});

pub(super) const CERTIFICATES: Target = Target {
    name: "certificates",
    run: |input| {
        if let Ok(certificate) = Certificate::parse(input) {
            assert_eq!(
                certificate.der().as_ref(),
                input,
                "one form, and nothing behind it"
            );
        }
        let _ = X509Authority::from_der(input);
        let _ = X509Svid::from_der_concat(input);
    },
    seeds: || {
        vec![
            WORLD.svid.chain()[0].to_vec(),
            WORLD.authority.authority().der().to_vec(),
        ]
    },
    words: &[
        "\u{6}\u{3}U\u{1d}\u{11}",
        "\u{6}\u{3}U\u{1d}\u{13}",
        "\u{6}\u{3}U\u{1d}\u{f}",
        "spiffe://example.org/",
    ],
};

/// Nothing that was changed in a signed leaf may be believed, whatever was changed.
pub(super) const CHAINS: Target = Target {
    name: "chains",
    run: |input| {
        let chain = [CertificateDer::from(input.to_vec())];
        if verify_x509_svid(&chain, &WORLD.bundles, UnixTime::from_secs(NOW)).is_ok() {
            assert_eq!(
                input,
                WORLD.svid.chain()[0].as_ref(),
                "a certificate that nobody signed is believed"
            );
        }
    },
    seeds: || vec![WORLD.svid.chain()[0].to_vec()],
    words: &["spiffe://example.org/admin", "\u{1}\u{1}\u{ff}"],
};

pub(super) const REQUESTS: Target = Target {
    name: "requests",
    run: |input| {
        if let Ok(request) = Csr::parse(input) {
            // What is read of it can be asked for without harm.
            let _ = request.subject();
            assert!(!request.public_key().spki_der().is_empty());
        }
    },
    seeds: || {
        let key = LocalKey::generate(KeyAlgorithm::EcP256).expect("randomness");
        let id = "spiffe://example.org/w".parse().expect("a SPIFFE ID");
        [None, Some(&id)]
            .into_iter()
            .filter_map(|id| create_csr(&key, id).ok())
            .collect()
    },
    words: &["\u{6}\t*\u{86}H\u{86}", "\u{a0}\u{0}"],
};
