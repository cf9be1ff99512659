use std::sync::{Arc, LazyLock};

use muster_identity::UnixTime;
use muster_pki::{
    bundle::{Bundle, BundleSet},
    x509::{
        CertificateDer, RevocationError, RevocationList, VerifyError, X509Authority,
        verify_unrevoked_x509_svid,
    },
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CrlDistributionPoint,
    CrlIssuingDistributionPoint, CrlScope, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevocationReason, RevokedCertParams, SanType, SerialNumber,
};
use time::{Duration, OffsetDateTime};

use super::certificates::NOW;
use crate::Target;

const PLACE: &str = "http://example.org/1.crl";

struct World {
    chain: [CertificateDer<'static>; 1],
    bundles: BundleSet,
    /// Lists that do not name the leaf: of all certificates, and of those that point to a place.
    clean: [Vec<u8>; 2],
    /// One that does.
    against: Vec<u8>,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let now = OffsetDateTime::from_unix_timestamp(NOW).expect("a moment");
    let (begin, end) = (now - Duration::HOUR, now + Duration::HOUR);
    let valid = || {
        let mut params = CertificateParams::default();
        (params.not_before, params.not_after) = (begin, end);
        params
    };
    let mut root = valid();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    root.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().expect("randomness");
    let certificate = root.self_signed(&key).expect("a root");
    let issuer = Issuer::new(root, key);
    let mut leaf = valid();
    leaf.is_ca = IsCa::ExplicitNoCa;
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.serial_number = Some(SerialNumber::from(vec![77]));
    let id = "spiffe://example.org/w".try_into().expect("ASCII");
    leaf.subject_alt_names = vec![SanType::URI(id)];
    let place = || CrlDistributionPoint {
        uris: vec![PLACE.to_owned()],
    };
    leaf.crl_distribution_points = vec![place()];
    let leaf = leaf.signed_by(&KeyPair::generate().expect("randomness"), &issuer);
    let list = |serial: u8, place: Option<CrlIssuingDistributionPoint>| {
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from(vec![serial]),
            revocation_time: now,
            reason_code: Some(RevocationReason::KeyCompromise),
            invalidity_date: Some(begin),
        };
        let list = CertificateRevocationListParams {
            this_update: begin,
            next_update: end,
            crl_number: SerialNumber::from(vec![9]),
            issuing_distribution_point: place,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&issuer).expect("a list").der().to_vec()
    };
    let of_users = CrlIssuingDistributionPoint {
        distribution_point: place(),
        scope: Some(CrlScope::UserCertsOnly),
    };
    let mut bundle = Bundle::new("example.org".parse().expect("a trust domain"));
    bundle.put_x509_authority(X509Authority::from_der(certificate.der()).expect("an authority"));
    World {
        chain: [leaf.expect("a leaf").der().clone()],
        bundles: BundleSet::new(Arc::new(bundle)),
        clean: [list(1, None), list(1, Some(of_users))],
        against: list(77, None),
    }
});

/// A list that nobody signed clears no certificate, and condemns none.
pub(super) const LISTS: Target = Target {
    name: "revocation-lists",
    run: |input| {
        let Ok(list) = RevocationList::parse(input) else {
            return;
        };
        assert_eq!(list.der(), input, "one form, and nothing behind it");
        for revoked in list.revoked() {
            assert_eq!(list.find(&revoked.serial), Some(revoked), "each is found");
        }
        let now = UnixTime::from_secs(NOW);
        match verify_unrevoked_x509_svid(&WORLD.chain, &WORLD.bundles, &[list], now) {
            Ok(_) => assert!(
                WORLD.clean.iter().any(|clean| clean == input),
                "a list that nobody signed clears"
            ),
            Err(VerifyError::Revocation(RevocationError::Revoked(_))) => {
                assert_eq!(input, WORLD.against, "a list that nobody signed condemns");
            }
            Err(_) => {}
        }
    },
    seeds: || {
        let mut seeds = WORLD.clean.to_vec();
        seeds.push(WORLD.against.clone());
        seeds
    },
    words: &[
        "\u{6}\u{3}U\u{1d}\u{14}",
        "\u{6}\u{3}U\u{1d}\u{15}",
        "\u{6}\u{3}U\u{1d}\u{1b}",
        "\u{6}\u{3}U\u{1d}\u{1c}",
        "\u{a}\u{1}\u{8}",
        "http://example.org/1.crl",
    ],
};
