//! One certificate, taken apart once.

use std::fmt;
use std::net::IpAddr;

use rustls_pki_types::CertificateDer;

use super::extensions::Extensions;
use super::name;
use super::serial::Serial;
use super::signed::Signed;
use super::validity::Validity;
use crate::der::{self, NotDer, Reader};
use crate::key::{BadSignature, PublicKey, PublicKeyError};
use crate::signer::SignatureScheme;

/// Longest certificate that is read. The largest that we make (a name of 2,048 bytes, RSA 4096) has under 5 KiB.
pub const MAX_CERTIFICATE: usize = 32 * 1024;

/// An X.509 certificate of version 3 in its one DER form, with a key that our policy accepts. Parsing looks at no
/// signature and applies no profile; it only makes sure that everything the rules ask for has one meaning.
#[derive(Clone)]
pub struct Certificate {
    der: CertificateDer<'static>,
    serial: Serial,
    /// Raw DER, header included: names are compared byte by byte (RFC 5280 7.1 allows more; issuers copy them).
    issuer: Vec<u8>,
    subject: Vec<u8>,
    validity: Validity,
    public_key: PublicKey,
    scheme: SignatureScheme,
    pub(super) extensions: Extensions,
}

impl Certificate {
    /// Reads one DER certificate; nothing may follow it.
    ///
    /// # Errors
    /// When it is not exactly that, or its key is outside the policy.
    pub fn parse(der: &[u8]) -> Result<Self, CertificateError> {
        if der.is_empty() {
            return Err(CertificateError::Empty);
        }
        if der.len() > MAX_CERTIFICATE {
            return Err(CertificateError::TooLong(der.len()));
        }
        let signed = Signed::parse(der)?;
        let mut fields = Reader::new(signed.content);
        let version = fields.read_optional(0xa0)?.ok_or(CertificateError::Version)?;
        if version != [der::INTEGER, 1, 2] {
            return Err(CertificateError::Version);
        }
        let serial = Serial::from_der_content(fields.read(der::INTEGER)?).ok_or(CertificateError::Serial)?;
        // RFC 5280 4.1.1.2: both places must name the same algorithm.
        if fields.read(der::SEQUENCE)? != signed.algorithm {
            return Err(CertificateError::Algorithm);
        }
        let scheme = signed.scheme().ok_or(CertificateError::Algorithm)?;
        let (issuer, _) = fields.read_with_header(der::SEQUENCE)?;
        let validity = Validity::parse(fields.read(der::SEQUENCE)?)?;
        let (subject, _) = fields.read_with_header(der::SEQUENCE)?;
        super::name::check_form(issuer)?;
        super::name::check_form(subject)?;
        let (spki, _) = fields.read_with_header(der::SEQUENCE)?;
        let public_key = PublicKey::from_spki_der(spki)?;
        // Unique identifiers are obsolete (RFC 5280 4.1.2.8) and mean nothing to any rule.
        fields.read_optional(0x81)?;
        fields.read_optional(0x82)?;
        let extensions = match fields.read_optional(0xa3)? {
            Some(content) => Extensions::parse(super::extensions::whole(content, der::SEQUENCE)?)?,
            None => Extensions::default(),
        };
        fields.finish()?;
        Ok(Self {
            serial,
            issuer: issuer.to_vec(),
            subject: subject.to_vec(),
            validity,
            public_key,
            scheme,
            extensions,
            der: CertificateDer::from(der.to_vec()),
        })
    }

    /// The bytes it was read from.
    #[must_use]
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// Its serial number.
    #[must_use]
    pub fn serial(&self) -> &Serial {
        &self.serial
    }

    /// When it counts.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// The key that it is about.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// The raw DER name of whom it is about.
    #[must_use]
    pub fn subject(&self) -> &[u8] {
        &self.subject
    }

    /// The raw DER name of who issued it.
    #[must_use]
    pub fn issuer(&self) -> &[u8] {
        &self.issuer
    }

    /// The subject key identifier, when it has one.
    #[must_use]
    pub fn subject_key_id(&self) -> Option<&[u8]> {
        self.extensions.subject_key_id.as_deref()
    }

    /// The key identifier of its issuer, when it names one.
    #[must_use]
    pub fn authority_key_id(&self) -> Option<&[u8]> {
        self.extensions.authority_key_id.as_deref()
    }

    /// Its URI names, whatever they are.
    #[must_use]
    pub fn uris(&self) -> &[String] {
        self.extensions
            .alternative_names
            .as_ref()
            .map_or(&[], |names| &names.uris)
    }

    /// Its DNS names, as they stand there.
    #[must_use]
    pub fn dns_names(&self) -> &[String] {
        self.extensions
            .alternative_names
            .as_ref()
            .map_or(&[], |names| &names.dns)
    }

    /// Its addresses, each of four or sixteen bytes.
    #[must_use]
    pub fn ip_addresses(&self) -> Vec<IpAddr> {
        let names = self.extensions.alternative_names.as_ref();
        let addresses = names.into_iter().flat_map(|names| &names.ips);
        let address = |bytes: &Vec<u8>| match bytes.as_slice() {
            bytes if bytes.len() == 4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
            bytes => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        };
        addresses.filter_map(address).collect()
    }

    /// The common name of its subject, when it has exactly one that is text: of two nobody can say which is meant.
    #[must_use]
    pub fn common_name(&self) -> Option<&str> {
        name::common_name(&self.subject)
    }

    /// Whether its key usage names digitalSignature. Without the extension it names nothing (RFC 5280 4.2.1.3 would allow all).
    #[must_use]
    pub fn may_sign_data(&self) -> bool {
        self.extensions
            .key_usage
            .is_some_and(|usage| usage.digital_signature)
    }

    /// Whether it says of itself that it may sign certificates (RFC 5280 4.2.1.9).
    #[must_use]
    pub fn is_ca(&self) -> bool {
        self.extensions
            .basic_constraints
            .is_some_and(|constraints| constraints.ca)
    }

    pub(super) fn subject_is_empty(&self) -> bool {
        self.subject == [der::SEQUENCE, 0]
    }

    /// Whether subject and issuer are the same name.
    pub(super) fn is_self_issued(&self) -> bool {
        self.subject == self.issuer
    }

    /// Checks the signature with the key of `issuer`; says nothing on whether that one may sign.
    pub(super) fn verify_signed_by(&self, issuer: &PublicKey) -> Result<(), BadSignature> {
        let signed = Signed::parse(&self.der).map_err(|_| BadSignature)?;
        issuer.verify(self.scheme, signed.message, signed.signature)
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("serial", &self.serial)
            .field("uris", &self.uris())
            .field("not_after", &self.validity.not_after.to_string())
            .finish_non_exhaustive()
    }
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der
    }
}

impl Eq for Certificate {}

/// Why bytes are no certificate for us.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CertificateError {
    /// No bytes at all (WA 4.5: a mandatory field).
    #[error("the certificate is empty")]
    Empty,
    /// Over the bound.
    #[error("a certificate of {0} bytes is longer than any that is accepted")]
    TooLong(usize),
    /// Not one DER certificate and nothing else.
    #[error("not one DER certificate (RFC 5280 4.1)")]
    Malformed,
    /// Versions 1 and 2 have no extensions, so they can't be what the standards ask for.
    #[error("not an X.509 certificate of version 3 (RFC 5280 4.1.2.1)")]
    Version,
    /// Negative, padded or over 20 bytes.
    #[error("the serial number is negative, padded or over 20 bytes (RFC 5280 4.1.2.2)")]
    Serial,
    /// Unknown, or not the same in both places.
    #[error("the signature algorithm is unknown, or differs inside and outside (RFC 5280 4.1.1.2)")]
    Algorithm,
    /// A key outside the policy.
    #[error("the certificate's key is refused")]
    PublicKey(#[from] PublicKeyError),
}

impl From<NotDer> for CertificateError {
    fn from(_: NotDer) -> Self {
        Self::Malformed
    }
}
