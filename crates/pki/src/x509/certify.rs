//! From what a certificate is to hold to the certificate, with names as the bytes that they are.
//!
//! The encoder's own names hold each attribute once and one attribute a part, so `DC=org, DC=example` would lose a part and a
//! multi-valued part can't be written. A verifier compares a certificate's issuer with its issuer's subject byte by byte: one name
//! that was written anew would break the chain. So the encoder writes everything else, unsigned; the names go in as they stand
//! in the issuer's certificate, and what is then signed is exactly what is sent.

use rcgen::{CertificateParams, Issuer, KeyIdMethod};
use rustls_pki_types::CertificateDer;

use super::issue::{IssueError, IssuingAuthority, algorithm};
use super::signed::Signed;
use crate::der::{self, NotDer, Reader};
use crate::key::PublicKey;
use crate::signer::SignatureScheme;

/// Signs a certificate for `key` as `issuer`. With a `subject` that DER name takes the place of the one in `params`.
pub(super) fn certify(
    params: &CertificateParams,
    key: &PublicKey,
    issuer: &IssuingAuthority,
    subject: Option<&[u8]>,
) -> Result<CertificateDer<'static>, IssueError> {
    let mut issuer_params = CertificateParams::default();
    issuer_params.key_identifier_method = KeyIdMethod::PreSpecified(issuer.key_id());
    let unsigned = Unsigned(issuer.signer.public_key());
    let draft = params
        .signed_by(&Subject(key), &Issuer::from_params(&issuer_params, &unsigned))
        .map_err(IssueError::Encode)?;
    let draft = Signed::parse(draft.der()).map_err(|NotDer| IssueError::NotAsAsked)?;
    let issuer_name = issuer.authority().certificate().subject();
    let message = named(draft.content, issuer_name, subject).map_err(|NotDer| IssueError::NotAsAsked)?;
    let scheme = SignatureScheme::for_certificates(issuer.signer.public_key().kind());
    let signature = issuer.signer.sign(scheme, &message).map_err(IssueError::Signer)?;
    let algorithm = der::value(der::SEQUENCE, &[draft.algorithm]);
    let signature = der::value(der::BIT_STRING, &[&[0], &signature]);
    Ok(der::value(der::SEQUENCE, &[&message, &algorithm, &signature]).into())
}

/// The fields of a certificate (RFC 5280 4.1) with other names in them.
fn named(content: &[u8], issuer: &[u8], subject: Option<&[u8]>) -> Result<Vec<u8>, NotDer> {
    let mut fields = Reader::new(content);
    let (version, _) = fields.read_with_header(0xa0)?;
    let (serial, _) = fields.read_with_header(der::INTEGER)?;
    let (algorithm, _) = fields.read_with_header(der::SEQUENCE)?;
    fields.read(der::SEQUENCE)?;
    let (validity, _) = fields.read_with_header(der::SEQUENCE)?;
    let (drafted, _) = fields.read_with_header(der::SEQUENCE)?;
    let rest = fields.rest();
    let parts = [
        version,
        serial,
        algorithm,
        issuer,
        validity,
        subject.unwrap_or(drafted),
        rest,
    ];
    Ok(der::value(der::SEQUENCE, &parts))
}

/// A key that signs nothing yet: the encoder asks it for the algorithm alone.
struct Unsigned<'a>(&'a PublicKey);

impl rcgen::PublicKeyData for Unsigned<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0.key_bytes()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        algorithm(self.0.kind())
    }
}

impl rcgen::SigningKey for Unsigned<'_> {
    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(Vec::new())
    }
}

struct Subject<'a>(&'a PublicKey);

impl rcgen::PublicKeyData for Subject<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0.key_bytes()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        algorithm(self.0.kind())
    }
}
