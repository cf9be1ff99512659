//! Is this chain who it says it is?

use muster_identity::{SpiffeId, TrustDomain, UnixTime};
use rustls_pki_types::CertificateDer;

use super::authority::X509Authority;
use super::certificate::{Certificate, CertificateError};
use super::leaf::{self, LeafError};
use super::path::{Path, PathError, Profile};
use super::revocation::{self, RevocationError, RevocationList};
use super::second_opinion::{self, Purpose};

/// Most certificates in a chain.
pub const MAX_CHAIN: usize = 8;
/// Most bytes in a chain.
pub const MAX_CHAIN_BYTES: usize = 64 * 1024;

/// Where the authorities of a trust domain are found: a bundle, or a set of them.
pub trait X509BundleSource {
    /// The authorities that are trusted for this trust domain, and for no other; none when there is no bundle for it.
    fn x509_authorities(&self, trust_domain: &TrustDomain) -> Option<&[X509Authority]>;

    /// Whether this name counts here, whoever vouches for it. A source may narrow a foreign trust domain to some paths.
    fn admits(&self, _id: &SpiffeId) -> bool {
        true
    }
}

impl<S: X509BundleSource + ?Sized> X509BundleSource for &S {
    fn x509_authorities(&self, trust_domain: &TrustDomain) -> Option<&[X509Authority]> {
        (**self).x509_authorities(trust_domain)
    }

    fn admits(&self, id: &SpiffeId) -> bool {
        (**self).admits(id)
    }
}

impl<S: X509BundleSource + ?Sized> X509BundleSource for std::sync::Arc<S> {
    fn x509_authorities(&self, trust_domain: &TrustDomain) -> Option<&[X509Authority]> {
        (**self).x509_authorities(trust_domain)
    }

    fn admits(&self, id: &SpiffeId) -> bool {
        (**self).admits(id)
    }
}

/// A chain that holds. Only verification makes one; what is in it is what was verified.
#[derive(Clone, Debug)]
pub struct VerifiedX509Svid {
    id: SpiffeId,
    leaf: Certificate,
    authority: X509Authority,
}

impl VerifiedX509Svid {
    /// Who it is.
    #[must_use]
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// The leaf: key, serial number, validity.
    #[must_use]
    pub fn leaf(&self) -> &Certificate {
        &self.leaf
    }

    /// The authority at the end of the path, as the bundle has it.
    #[must_use]
    pub fn authority(&self) -> &X509Authority {
        &self.authority
    }
}

/// Verifies a chain, leaf first (WA 5.1), by X509-SVID section 5: the profile of the leaf, then a path to an authority
/// in the bundle of the leaf's own trust domain.
///
/// # Errors
/// Names the rule that was broken, and its section.
pub fn verify_x509_svid(
    chain: &[CertificateDer<'_>],
    bundles: &impl X509BundleSource,
    now: UnixTime,
) -> Result<VerifiedX509Svid, VerifyError> {
    verify(chain, bundles, None, now)
}

/// The same, and none of its certificates below the authority was revoked: each is covered by one of these lists, and
/// named by none (RFC 5280 6.3).
///
/// # Errors
/// Names the rule that was broken, and its section. Also where no list covers a certificate.
pub fn verify_unrevoked_x509_svid(
    chain: &[CertificateDer<'_>],
    bundles: &impl X509BundleSource,
    lists: &[RevocationList],
    now: UnixTime,
) -> Result<VerifiedX509Svid, VerifyError> {
    verify(chain, bundles, Some(lists), now)
}

fn verify(
    chain: &[CertificateDer<'_>],
    bundles: &impl X509BundleSource,
    lists: Option<&[RevocationList]>,
    now: UnixTime,
) -> Result<VerifiedX509Svid, VerifyError> {
    let (leaf, intermediates) = parse_chain(chain)?;
    let id = leaf::check(&leaf)?;
    // WA 4.6, FD 7.3: the trust domain chooses the authorities; those of others are not looked at.
    let authorities = bundles
        .x509_authorities(id.trust_domain())
        .ok_or_else(|| VerifyError::NoBundle(id.trust_domain().clone()))?;
    let path = Path::find(&leaf, &intermediates, authorities, Profile::Svid, now)?;
    let believed = match lists {
        Some(lists) => revocation::check(&path, lists, now)?,
        None => Vec::new(),
    };
    second_opinion::confirm(&path, Purpose::Client, &believed, now).map_err(VerifyError::SecondOpinion)?;
    if !bundles.admits(&id) {
        return Err(VerifyError::OutOfScope(id));
    }
    let authority = path.authority.clone();
    Ok(VerifiedX509Svid { id, authority, leaf })
}

/// Takes a chain apart, within the bounds.
pub(super) fn parse_chain(
    chain: &[CertificateDer<'_>],
) -> Result<(Certificate, Vec<Certificate>), ChainError> {
    let (leaf, intermediates) = chain.split_first().ok_or(ChainError::Empty)?;
    let bytes: usize = chain.iter().map(|certificate| certificate.len()).sum();
    if chain.len() > MAX_CHAIN || bytes > MAX_CHAIN_BYTES {
        return Err(ChainError::TooLong {
            certificates: chain.len(),
            bytes,
        });
    }
    let leaf = Certificate::parse(leaf).map_err(|source| ChainError::Certificate { at: 0, source })?;
    let intermediates = intermediates
        .iter()
        .enumerate()
        .map(|(at, der)| {
            Certificate::parse(der).map_err(|source| ChainError::Certificate { at: at + 1, source })
        })
        .collect::<Result<_, _>>()?;
    Ok((leaf, intermediates))
}

/// Why bytes are no chain of certificates.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ChainError {
    /// Nothing there.
    #[error("the chain is empty")]
    Empty,
    /// Over the bounds.
    #[error("a chain of {certificates} certificates and {bytes} bytes is longer than any that is accepted")]
    TooLong {
        /// How many there are.
        certificates: usize,
        /// How many bytes they have.
        bytes: usize,
    },
    /// One of them does not parse.
    #[error("certificate {at} of the chain is not usable")]
    Certificate {
        /// Where it stands; the leaf is 0.
        at: usize,
        /// What is wrong with it.
        source: CertificateError,
    },
}

/// Why a chain was refused.
#[derive(Clone, Debug, thiserror::Error)]
pub enum VerifyError {
    /// Not a chain of certificates.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The leaf is no X.509-SVID.
    #[error(transparent)]
    Leaf(#[from] LeafError),
    /// Nobody vouches for the trust domain.
    #[error("no bundle for the trust domain {0}")]
    NoBundle(TrustDomain),
    /// No path to an authority of the bundle.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A certificate of the path was revoked, or nobody can say that it was not.
    #[error(transparent)]
    Revocation(#[from] RevocationError),
    /// Our rules found a path that the second opinion refuses.
    #[error("the path was refused by the second opinion")]
    SecondOpinion(#[source] webpki::Error),
    /// A genuine name that does not count here.
    #[error("{0} lies under none of the paths that its trust domain is narrowed to here")]
    OutOfScope(SpiffeId),
}

impl VerifyError {
    /// The section of the standard that says so.
    #[must_use]
    pub fn section(&self) -> &'static str {
        match self {
            Self::Chain(ChainError::Empty) => "Workload API 5.1",
            Self::Chain(ChainError::TooLong { .. }) => "project limit",
            Self::Chain(ChainError::Certificate { .. }) => "RFC 5280 4.1",
            Self::Leaf(error) => error.section(),
            Self::NoBundle(_) => "Workload API 4.6",
            Self::Path(error) => error.section(),
            Self::Revocation(error) => error.section(),
            Self::SecondOpinion(_) => "X509-SVID 5.1",
            Self::OutOfScope(_) => "project policy",
        }
    }
}
