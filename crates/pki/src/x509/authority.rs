//! Certificates that a bundle trusts to issue.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use rustls_pki_types::CertificateDer;

use super::certificate::{Certificate, CertificateError};
use super::leaf::is_trust_domain_uri;
use super::validity::Validity;
use crate::key::PublicKey;

/// An X.509 authority of a bundle: a certificate that may sign certificates (XS 3.2, 4.1, 4.3, 6.1). Cheap to clone.
#[derive(Clone, Eq, PartialEq)]
pub struct X509Authority {
    certificate: Arc<Certificate>,
    id: AuthorityId,
    tainted: bool,
}

impl X509Authority {
    /// Reads one DER certificate and makes sure that it is an authority: what is no CA must never anchor a path.
    ///
    /// # Errors
    /// When it is no certificate, or not one that may sign others.
    pub fn from_der(der: &[u8]) -> Result<Self, AuthorityError> {
        Self::from_certificate(Certificate::parse(der)?)
    }

    /// The same for a certificate that was parsed already.
    ///
    /// # Errors
    /// When it may not sign others.
    pub fn from_certificate(certificate: Certificate) -> Result<Self, AuthorityError> {
        if !certificate.is_ca() {
            return Err(AuthorityError::NotCa);
        }
        // Configured authorities may come from a PKI that leaves key usage out, as RFC 5280 4.2.1.3 lets old roots do.
        if certificate
            .extensions
            .key_usage
            .is_some_and(|usage| !usage.key_cert_sign)
        {
            return Err(AuthorityError::KeyUsage);
        }
        if certificate.extensions.unknown_critical {
            return Err(AuthorityError::UnknownCritical);
        }
        // XS 3.2: no path. The trailing slash that the standard's own example has (TB appendix A) is let through here,
        // on a configured authority, and nowhere else.
        let names_a_workload = certificate.uris().iter().any(|uri| {
            uri.starts_with("spiffe://") && !is_trust_domain_uri(uri.strip_suffix('/').unwrap_or(uri))
        });
        if names_a_workload {
            return Err(AuthorityError::Path);
        }
        let id = AuthorityId::of(&certificate);
        Ok(Self {
            certificate: Arc::new(certificate),
            id,
            tainted: false,
        })
    }

    /// The same authority, tainted or not: a tainted one is still trusted, but nothing that it signed is to last.
    #[must_use]
    pub fn with_taint(mut self, tainted: bool) -> Self {
        self.tainted = tainted;
        self
    }

    /// Whether what it signed should be replaced.
    #[must_use]
    pub fn tainted(&self) -> bool {
        self.tainted
    }

    /// Its name among the authorities of the trust domain.
    #[must_use]
    pub fn id(&self) -> &AuthorityId {
        &self.id
    }

    /// The certificate.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The certificate's bytes.
    #[must_use]
    pub fn der(&self) -> &CertificateDer<'static> {
        self.certificate.der()
    }

    /// When it counts.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.certificate.validity()
    }

    /// Its public key.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        self.certificate.public_key()
    }
}

impl fmt::Debug for X509Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("X509Authority")
            .field("id", &self.id)
            .field("tainted", &self.tainted)
            .field("not_after", &self.validity().not_after.to_string())
            .finish()
    }
}

/// The subject key identifier of an authority in lower-case hexadecimal: what SPIRE's API calls authority id.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct AuthorityId(String);

impl AuthorityId {
    /// An authority without the extension is known by what ours would be.
    pub(super) fn of(certificate: &Certificate) -> Self {
        let given = certificate.subject_key_id().and_then(Self::of_key_id);
        given.unwrap_or_else(|| Self::hex(&certificate.public_key().key_identifier()))
    }

    /// As a certificate below names it; an empty name is none.
    pub(super) fn of_key_id(id: &[u8]) -> Option<Self> {
        (!id.is_empty()).then(|| Self::hex(id))
    }

    fn hex(bytes: &[u8]) -> Self {
        Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The hexadecimal text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AuthorityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for AuthorityId {
    type Err = ParseAuthorityIdError;

    /// Whole bytes in lower-case hexadecimal, at most 64 of them.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let hex = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if hex && !text.is_empty() && text.len() <= 128 && text.len().is_multiple_of(2) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseAuthorityIdError)
        }
    }
}

/// Not an authority id.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not an authority id: expected lower-case hexadecimal digits")]
pub struct ParseAuthorityIdError;

/// Why a certificate is no authority.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AuthorityError {
    /// No certificate, or a key outside the policy.
    #[error("not a usable certificate")]
    Certificate(#[from] CertificateError),
    /// Basic constraints do not say that it is a CA.
    #[error("the certificate is not a CA (X509-SVID 4.1)")]
    NotCa,
    /// Its key usage does not let it sign certificates.
    #[error("the certificate's key usage lacks keyCertSign (X509-SVID 4.3)")]
    KeyUsage,
    /// It has a critical extension that is not evaluated here.
    #[error("the certificate has an unknown critical extension (RFC 5280 4.2)")]
    UnknownCritical,
    /// A signing certificate's SPIFFE ID has no path.
    #[error("the certificate's SPIFFE ID has a path or is malformed (X509-SVID 3.2)")]
    Path,
}
