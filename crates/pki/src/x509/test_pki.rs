//! A PKI for tests, as others would make it: with rcgen, not with our own issuing.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

/// When everything here is valid.
pub(super) const NOW: i64 = 1_800_000_000;

pub(super) struct Ca {
    pub(super) der: CertificateDer<'static>,
    pub(super) issuer: Issuer<'static, KeyPair>,
}

/// A moment, in seconds from [`NOW`].
pub(super) fn moment(after_now: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(NOW + after_now).expect("a moment")
}

/// From a minute before [`NOW`] to an hour after it, with this common name.
pub(super) fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = moment(-60);
    params.not_after = moment(3600);
    params
}

/// An authority, of its own or below another.
pub(super) fn ca(name: &str, above: Option<&Ca>, change: impl FnOnce(&mut CertificateParams)) -> Ca {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    change(&mut params);
    let key = KeyPair::generate().expect("a key");
    let certificate = match above {
        Some(above) => params.signed_by(&key, &above.issuer),
        None => params.self_signed(&key),
    };
    Ca {
        der: certificate.expect("a certificate").der().clone(),
        issuer: Issuer::new(params, key),
    }
}

/// What no X.509-SVID's issuer may have.
pub(super) fn for_clients_alone(params: &mut CertificateParams) {
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
}

/// A certificate for a new key.
pub(super) fn leaf(
    name: &str,
    above: &Ca,
    change: impl FnOnce(&mut CertificateParams),
) -> CertificateDer<'static> {
    let mut params = params(name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    change(&mut params);
    let key = KeyPair::generate().expect("a key");
    let leaf = params.signed_by(&key, &above.issuer).expect("a leaf");
    leaf.der().clone()
}
