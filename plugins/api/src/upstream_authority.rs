//! Who stands above our authorities.

use std::sync::Arc;

use async_trait::async_trait;
use muster_identity::{Lifetime, TrustDomain, UnixTime};
use muster_pki::jwt::JwtAuthority;
use muster_pki::x509::{CertificateDer, X509Authority};

/// Signs our authorities, so that ours lead to roots that are kept elsewhere, and says what else is known there.
///
/// Its answers are not believed: the server tries an authority before it signs with it. Deadlines and retries are the server's. Each
/// method may be dropped half way and called again.
#[async_trait]
pub trait UpstreamAuthority: Send + Sync {
    /// The plugin's name in configuration, logs and metrics.
    fn name(&self) -> &'static str;

    /// Which of its kind it is, by what configuration names it by: the same after a restart, and no secret. What one of them knows says nothing about what
    /// another one knew.
    fn whom(&self) -> String {
        self.name().to_owned()
    }

    /// Has an authority signed.
    async fn sign_authority(&self, request: &AuthorityRequest) -> Result<SignedAuthority, UpstreamError>;

    /// Whether token-signing keys are made known above. What is made known there takes places there.
    fn takes_jwt_keys(&self) -> bool;

    /// Makes a token-signing key known above, and answers with all that are known there: [`UpstreamError::Unsupported`] where tokens mean nothing.
    /// One that is known already is no error.
    async fn publish_jwt_key(&self, key: &JwtAuthority) -> Result<Vec<JwtAuthority>, UpstreamError>;

    /// Waits until what is known above differs from `seen`, and answers with it. An upstream that is not asked between two signatures may know no more
    /// than the last one told; before the first it may wait for that.
    async fn changed(&self, seen: &UpstreamBundle) -> Result<UpstreamBundle, UpstreamError>;
}

#[async_trait]
impl<U: UpstreamAuthority + ?Sized> UpstreamAuthority for Arc<U> {
    fn name(&self) -> &'static str {
        (**self).name()
    }

    fn whom(&self) -> String {
        (**self).whom()
    }

    fn takes_jwt_keys(&self) -> bool {
        (**self).takes_jwt_keys()
    }

    async fn sign_authority(&self, request: &AuthorityRequest) -> Result<SignedAuthority, UpstreamError> {
        (**self).sign_authority(request).await
    }

    async fn publish_jwt_key(&self, key: &JwtAuthority) -> Result<Vec<JwtAuthority>, UpstreamError> {
        (**self).publish_jwt_key(key).await
    }

    async fn changed(&self, seen: &UpstreamBundle) -> Result<UpstreamBundle, UpstreamError> {
        (**self).changed(seen).await
    }
}

/// What is to be signed.
#[derive(Clone, Debug)]
pub struct AuthorityRequest {
    /// For which trust domain.
    pub trust_domain: TrustDomain,
    /// The request in PKCS#10, DER, signed by the new authority's key. Its one URI name is the one that the certificate
    /// must have; its subject is a wish, because some servers name what stands below them by themselves.
    pub csr: Vec<u8>,
    /// How long it shall live. An upstream may give less.
    pub lifetime: Lifetime,
    /// The time now, for those who sign by themselves.
    pub now: UnixTime,
}

/// What was signed.
#[derive(Clone, Debug)]
pub struct SignedAuthority {
    /// The new authority first, then what stands between it and the root. A root at the end does no harm.
    pub chain: Vec<CertificateDer<'static>>,
    /// The roots that verifiers need, all of them.
    pub roots: Vec<X509Authority>,
}

/// What is known above.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct UpstreamBundle {
    /// The roots, with their taints.
    pub x509_authorities: Vec<X509Authority>,
    /// Keys that sign tokens of the trust domain.
    pub jwt_authorities: Vec<JwtAuthority>,
    /// What it means that something is not among them.
    pub extent: Extent,
}

/// What it means that an authority is not among those that an upstream knows.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Extent {
    /// Nothing: it may still be trusted, until its end.
    #[default]
    Some,
    /// It is trusted no more: these are all there are.
    All,
}

/// Why an upstream authority did not do it.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// It can't be reached now, or fails by itself.
    #[error("{what}")]
    Unavailable {
        /// What was being done, with whom.
        what: String,
        /// Why that failed.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It answered, and the answer is no. Somebody must change something, there or here.
    #[error("{what}: {reason}")]
    Refused {
        /// What was being done, with whom.
        what: String,
        /// What it says.
        reason: String,
    },
    /// What it is made of can't be used: files that do not belong together, an answer that is none.
    #[error("{what}")]
    Unusable {
        /// Which thing.
        what: String,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// This kind of upstream has no such thing.
    #[error("the upstream authority does not support this")]
    Unsupported,
}

impl UpstreamError {
    /// Something that can't be reached now.
    pub fn unavailable(
        what: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Unavailable {
            what: what.into(),
            source: source.into(),
        }
    }

    /// Something that can't be used.
    pub fn unusable(
        what: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Unusable {
            what: what.into(),
            source: source.into(),
        }
    }

    /// Whether this kind of upstream never does it.
    pub fn is_unsupported(&self) -> bool {
        matches!(self, Self::Unsupported)
    }
}
