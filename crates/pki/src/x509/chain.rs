//! Chains that are no X.509-SVIDs: certificates that others issued, to be believed for what they prove.

use muster_identity::{SpiffeId, UnixTime};
use rustls_pki_types::CertificateDer;

use super::authority::X509Authority;
use super::certificate::Certificate;
use super::leaf;
use super::path::{Path, PathError, Profile};
use super::second_opinion::{self, Purpose};
use super::verify::{ChainError, VerifyError, X509BundleSource, parse_chain};
use crate::key::PublicKey;

/// A chain, leaf first, taken apart and not yet believed.
#[derive(Clone, Debug)]
pub struct Chain {
    leaf: Certificate,
    intermediates: Vec<Certificate>,
}

/// A chain that holds. Only verification makes one; what is in it is what was verified.
#[derive(Clone, Debug)]
pub struct VerifiedChain {
    leaf: Certificate,
    /// Of the path that was found alone, nearest to the leaf first.
    intermediates: Vec<Certificate>,
    authority: X509Authority,
}

impl Chain {
    /// Takes a chain apart, within the bounds of every chain.
    ///
    /// # Errors
    /// When it is none, or too long.
    pub fn parse(chain: &[CertificateDer<'_>]) -> Result<Self, ChainError> {
        let (leaf, intermediates) = parse_chain(chain)?;
        Ok(Self { leaf, intermediates })
    }

    /// All its keys, the leaf's first: for bounds of the caller's own, before any arithmetic.
    pub fn public_keys(&self) -> impl Iterator<Item = &PublicKey> {
        [&self.leaf]
            .into_iter()
            .chain(&self.intermediates)
            .map(Certificate::public_key)
    }

    /// Finds a path to one of `authorities` (RFC 5280 6), whatever the certificates are for. Who asks says what the leaf must be
    /// besides; one that may sign certificates is none.
    ///
    /// # Errors
    /// Names the rule that was broken.
    pub fn verify(
        self,
        authorities: &[X509Authority],
        now: UnixTime,
    ) -> Result<VerifiedChain, VerifyChainError> {
        if self.leaf.extensions.unknown_critical {
            return Err(VerifyChainError::UnknownCritical);
        }
        if self.leaf.is_ca() {
            return Err(VerifyChainError::Ca);
        }
        let path = Path::find(&self.leaf, &self.intermediates, authorities, Profile::Any, now)?;
        second_opinion::confirm(&path, Purpose::Any, &[], now).map_err(VerifyChainError::SecondOpinion)?;
        Ok(VerifiedChain::of(&path))
    }

    /// Verifies it as an X.509-SVID, as [`verify_x509_svid`](super::verify_x509_svid) does.
    ///
    /// # Errors
    /// Names the rule that was broken, and its section.
    pub fn verify_svid(
        self,
        bundles: &impl X509BundleSource,
        now: UnixTime,
    ) -> Result<(SpiffeId, VerifiedChain), VerifyError> {
        let id = leaf::check(&self.leaf)?;
        let authorities = bundles
            .x509_authorities(id.trust_domain())
            .ok_or_else(|| VerifyError::NoBundle(id.trust_domain().clone()))?;
        let path = Path::find(&self.leaf, &self.intermediates, authorities, Profile::Svid, now)?;
        second_opinion::confirm(&path, Purpose::Client, &[], now).map_err(VerifyError::SecondOpinion)?;
        Ok((id, VerifiedChain::of(&path)))
    }
}

impl VerifiedChain {
    fn of(path: &Path<'_>) -> Self {
        let mut certificates = path.certificates.iter().map(|certificate| (*certificate).clone());
        let leaf = certificates.next().expect("a path begins with its leaf");
        Self {
            leaf,
            intermediates: certificates.collect(),
            authority: path.authority.clone(),
        }
    }

    /// What was verified.
    #[must_use]
    pub fn leaf(&self) -> &Certificate {
        &self.leaf
    }

    /// Whoever issued, nearest to the leaf first; the authority is the last.
    pub fn issuers(&self) -> impl Iterator<Item = &Certificate> {
        self.intermediates.iter().chain([self.authority.certificate()])
    }
}

/// Why a chain was refused.
#[derive(Clone, Debug, thiserror::Error)]
pub enum VerifyChainError {
    /// The leaf has something critical that is not evaluated here.
    #[error("the certificate has an unknown critical extension (RFC 5280 4.2)")]
    UnknownCritical,
    /// The leaf is a CA.
    #[error("the certificate is that of a CA")]
    Ca,
    /// No path to an authority.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Our rules found a path that the second opinion refuses.
    #[error("the path was refused by the second opinion")]
    SecondOpinion(#[source] webpki::Error),
}

#[cfg(test)]
mod tests;
