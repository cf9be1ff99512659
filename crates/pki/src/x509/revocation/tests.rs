//! A small PKI, and lists that are made field by field.

mod paths;
mod reading;

use muster_identity::{TrustDomain, UnixTime};
use rcgen::{CertificateParams, IsCa, KeyUsagePurpose, SanType, SerialNumber, SigningKey as _};

use super::*;
use crate::der;
use crate::x509::test_pki::{self, Ca, NOW, moment};
use crate::x509::{
    CertificateDer, VerifyError, X509Authority, X509BundleSource, verify_unrevoked_x509_svid,
    verify_x509_svid,
};

/// The serial number of every leaf here.
const LEAF: u8 = 77;
/// That of every authority.
const AUTHORITY: u8 = 5;

struct Bundle(TrustDomain, Vec<X509Authority>);

impl X509BundleSource for Bundle {
    fn x509_authorities(&self, trust_domain: &TrustDomain) -> Option<&[X509Authority]> {
        (trust_domain == &self.0).then_some(&self.1)
    }
}

fn ca(name: &str, above: Option<&Ca>, usages: &[KeyUsagePurpose]) -> Ca {
    test_pki::ca(name, above, |params| {
        params.key_usages = usages.to_vec();
        params.serial_number = Some(SerialNumber::from(vec![AUTHORITY]));
    })
}

/// What signs certificates and lists.
const BOTH: [KeyUsagePurpose; 2] = [KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];

fn root() -> Ca {
    ca("root", None, &BOTH)
}

fn middle(above: &Ca) -> Ca {
    ca("middle", Some(above), &BOTH)
}

fn leaf_with(above: &Ca, change: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
    test_pki::leaf("leaf", above, |params| {
        params.is_ca = IsCa::ExplicitNoCa;
        params.serial_number = Some(SerialNumber::from(vec![LEAF]));
        let id = "spiffe://example.org/w".try_into().expect("ASCII");
        params.subject_alt_names = vec![SanType::URI(id)];
        change(params);
    })
}

fn leaf(above: &Ca) -> CertificateDer<'static> {
    leaf_with(above, |_| {})
}

fn verify(chain: &[CertificateDer<'_>], root: &Ca, lists: &[RevocationList]) -> Result<(), VerifyError> {
    let authority = X509Authority::from_der(&root.der).expect("an authority");
    let bundle = Bundle("example.org".parse().expect("a trust domain"), vec![authority]);
    let now = UnixTime::from_secs(NOW);
    verify_x509_svid(chain, &bundle, now).expect("the path itself holds");
    verify_unrevoked_x509_svid(chain, &bundle, lists, now).map(drop)
}

/// What is wrong with the lists of a path that holds.
fn refused(chain: &[CertificateDer<'_>], root: &Ca, lists: &[RevocationList]) -> RevocationError {
    match verify(chain, root, lists) {
        Err(VerifyError::Revocation(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// A list, field by field: each test bends one of them.
struct List {
    version: Vec<u8>,
    algorithm: Vec<u8>,
    issuer: Vec<u8>,
    this_update: Vec<u8>,
    next_update: Vec<u8>,
    /// `revokedCertificates`, whole.
    entries: Vec<u8>,
    extensions: Vec<Vec<u8>>,
}

const CRL_NUMBER: u8 = 20;
const REASON: u8 = 21;
const INVALIDITY: u8 = 24;
const DELTA: u8 = 27;
const PLACE: u8 = 28;
const CERTIFICATE_ISSUER: u8 = 29;
/// Of nobody.
const UNKNOWN: u8 = 99;

impl List {
    /// Of `ca`, with a number and nothing revoked.
    fn of(ca: &Ca) -> Self {
        let certificate = Certificate::parse(&ca.der).expect("a certificate");
        Self {
            version: vec![der::INTEGER, 1, 1],
            algorithm: der::value(der::SEQUENCE, &[rustls_pki_types::alg_id::ECDSA_SHA256.as_ref()]),
            issuer: certificate.subject().to_vec(),
            this_update: generalized(-60),
            next_update: generalized(60),
            entries: Vec::new(),
            extensions: vec![extension(CRL_NUMBER, false, &[der::INTEGER, 1, 9])],
        }
    }

    fn revoking(mut self, entries: &[Vec<u8>]) -> Self {
        let entries: Vec<_> = entries.iter().map(Vec::as_slice).collect();
        self.entries = der::value(der::SEQUENCE, &entries);
        self
    }

    fn with(mut self, extension: Vec<u8>) -> Self {
        self.extensions.push(extension);
        self
    }

    fn signed(&self, ca: &Ca) -> Vec<u8> {
        let extensions: Vec<_> = self.extensions.iter().map(Vec::as_slice).collect();
        let extensions = der::value(der::SEQUENCE, &extensions);
        let extensions = if self.extensions.is_empty() {
            Vec::new()
        } else {
            der::value(0xa0, &[&extensions])
        };
        let content = der::value(
            der::SEQUENCE,
            &[
                &self.version,
                &self.algorithm,
                &self.issuer,
                &self.this_update,
                &self.next_update,
                &self.entries,
                &extensions,
            ],
        );
        let signature = ca.issuer.key().sign(&content).expect("a signature");
        let signature = der::value(der::BIT_STRING, &[&[0], &signature]);
        let algorithm = der::value(der::SEQUENCE, &[rustls_pki_types::alg_id::ECDSA_SHA256.as_ref()]);
        der::value(der::SEQUENCE, &[&content, &algorithm, &signature])
    }

    fn read(&self, ca: &Ca) -> Result<RevocationList, RevocationListError> {
        RevocationList::parse(&self.signed(ca))
    }

    fn good(&self, ca: &Ca) -> RevocationList {
        self.read(ca).expect("a list")
    }
}

fn generalized(after_now: i64) -> Vec<u8> {
    let text = UnixTime::from_secs(NOW + after_now).to_string();
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_digit).collect();
    der::value(0x18, &[&digits, b"Z"])
}

fn extension(id: u8, critical: bool, value: &[u8]) -> Vec<u8> {
    let critical: &[u8] = if critical { &[der::BOOLEAN, 1, 0xff] } else { &[] };
    let oid = [der::OID, 3, 0x55, 0x1d, id];
    der::value(
        der::SEQUENCE,
        &[&oid, critical, &der::value(der::OCTET_STRING, &[value])],
    )
}

fn entry(serial: u8, extensions: &[Vec<u8>]) -> Vec<u8> {
    let parts: Vec<_> = extensions.iter().map(Vec::as_slice).collect();
    let mut all = Vec::new();
    if !parts.is_empty() {
        all = der::value(der::SEQUENCE, &parts);
    }
    der::value(
        der::SEQUENCE,
        &[&[der::INTEGER, 1, serial], &generalized(-30), &all],
    )
}

fn reason(code: u8) -> Vec<u8> {
    extension(REASON, false, &[0x0a, 1, code])
}

fn place(parts: &[&[u8]]) -> Vec<u8> {
    extension(PLACE, true, &der::value(der::SEQUENCE, parts))
}

/// `fullName` with one URI.
fn at_uri(uri: &str) -> Vec<u8> {
    let uri = der::value(0x86, &[uri.as_bytes()]);
    der::value(0xa0, &[&der::value(0xa0, &[&uri])])
}
