//! What an X.509-SVID itself must look like, whoever issued it.

use muster_identity::{SpiffeId, TrustDomain};

use super::certificate::Certificate;

/// Applies the rules for leaf certificates and returns the identity.
///
/// Producer-side rules (critical key usage, both key purposes, a critical SAN where the subject is empty) are enforced on
/// what comes in too: a certificate that breaks them was not made by a conforming issuer.
pub(super) fn check(certificate: &Certificate) -> Result<SpiffeId, LeafError> {
    let extensions = &certificate.extensions;
    if extensions.unknown_critical {
        return Err(LeafError::UnknownCritical);
    }
    // XS 2, 5.2: exactly one URI SAN, and it is a SPIFFE ID.
    let names = extensions.alternative_names.as_ref().ok_or(LeafError::NoUri)?;
    let id: SpiffeId = match names.uris.as_slice() {
        [] => return Err(LeafError::NoUri),
        [uri] => uri.parse().map_err(LeafError::Id)?,
        more => return Err(LeafError::ManyUris(more.len())),
    };
    // XS 3.1: without a subject, the SAN is all there is and must be critical.
    if certificate.subject_is_empty() && !names.critical {
        return Err(LeafError::AlternativeNameNotCritical);
    }
    // XS 4.1, 5.2. Basic constraints may be missing: cA is then false.
    if certificate.is_ca() {
        return Err(LeafError::Ca);
    }
    // XS 4.3, 5.2.
    let usage = extensions.key_usage.ok_or(LeafError::NoKeyUsage)?;
    if usage.key_cert_sign || usage.crl_sign {
        return Err(LeafError::SigningKeyUsage);
    }
    if !usage.critical {
        return Err(LeafError::KeyUsageNotCritical);
    }
    if !usage.digital_signature {
        return Err(LeafError::NoDigitalSignature);
    }
    // XS 4.4: may be missing; if there, both.
    if extensions
        .extended_key_usage
        .is_some_and(|usage| !(usage.server_auth && usage.client_auth))
    {
        return Err(LeafError::ExtendedKeyUsage);
    }
    if extensions.name_constraints.is_some() {
        return Err(LeafError::NameConstraints);
    }
    // XS 3.2: an identity without a path is a trust domain's, and those sign.
    if id.is_trust_domain_id() {
        return Err(LeafError::NoPath);
    }
    Ok(id)
}

/// Whether this is the SPIFFE ID of a trust domain, without a path.
pub(super) fn is_trust_domain_uri(uri: &str) -> bool {
    uri.strip_prefix("spiffe://")
        .is_some_and(|name| name.parse::<TrustDomain>().is_ok())
}

/// Which rule for leaf certificates was broken.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum LeafError {
    /// It names nobody.
    #[error("the certificate has no URI name, so no SPIFFE ID")]
    NoUri,
    /// It names more than one.
    #[error("the certificate has {0} URI names instead of one")]
    ManyUris(usize),
    /// What it names is no SPIFFE ID.
    #[error("the certificate's URI name is not a SPIFFE ID")]
    Id(#[source] muster_identity::ParseIdError),
    /// It names a trust domain.
    #[error("the certificate's SPIFFE ID has no path")]
    NoPath,
    /// Empty subject, SAN not critical.
    #[error("the subject is empty but the alternative name is not critical")]
    AlternativeNameNotCritical,
    /// A CA certificate authenticates nobody.
    #[error("the certificate is a CA")]
    Ca,
    /// No key usage.
    #[error("the certificate has no key usage")]
    NoKeyUsage,
    /// It may sign certificates or revocation lists.
    #[error("the key usage of a leaf has keyCertSign or cRLSign")]
    SigningKeyUsage,
    /// Key usage not critical.
    #[error("the key usage is not critical")]
    KeyUsageNotCritical,
    /// It may not sign a handshake.
    #[error("the key usage lacks digitalSignature")]
    NoDigitalSignature,
    /// Only one of the two purposes, or neither.
    #[error("the extended key usage lacks serverAuth or clientAuth")]
    ExtendedKeyUsage,
    /// Name constraints belong into CA certificates.
    #[error("a leaf has name constraints")]
    NameConstraints,
    /// A critical extension that is not evaluated here.
    #[error("the certificate has an unknown critical extension")]
    UnknownCritical,
}

impl LeafError {
    /// The section of the standard that says so.
    #[must_use]
    pub fn section(&self) -> &'static str {
        match self {
            Self::NoUri | Self::ManyUris(_) => "X509-SVID 2, 5.2",
            Self::Id(_) => "SPIFFE-ID 2",
            Self::NoPath => "X509-SVID 3.2",
            Self::AlternativeNameNotCritical => "X509-SVID 3.1",
            Self::Ca => "X509-SVID 4.1, 5.2",
            Self::SigningKeyUsage => "X509-SVID 4.3, 5.2",
            Self::NoKeyUsage | Self::KeyUsageNotCritical | Self::NoDigitalSignature => "X509-SVID 4.3",
            Self::ExtendedKeyUsage => "X509-SVID 4.4",
            Self::NameConstraints => "X509-SVID 4.2",
            Self::UnknownCritical => "RFC 5280 4.2",
        }
    }
}
