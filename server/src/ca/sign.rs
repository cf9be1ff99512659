//! Signing with what is active.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use muster_identity::{DnsName, Lifetime, SpiffeId, TrustDomain, UnixTime};
use muster_pki::jwt::{Audience, IssueJwtError, JwtSvid, JwtSvidProfile, KeyId, TokenId, issue_jwt_svid};
use muster_pki::x509::{
    CertificateDer, IntermediateProfile, IntermediateSubject, IssueError, IssuingAuthority, Subject,
    X509Authority, X509Svid, X509SvidProfile, issue_intermediate, issue_x509_svid,
};
use muster_pki::{PublicKey, Signer};
use muster_runtime::{Clock, SigningPool, SigningPoolError};

use super::{Holder, Kind, Lifetimes, OverCapError, Tokens};

/// Signs SVIDs with the active authorities. Clones share them.
#[derive(Clone)]
pub struct Ca {
    inner: Arc<Inner>,
}

struct Inner {
    trust_domain: TrustDomain,
    lifetimes: Lifetimes,
    tokens: Tokens,
    clock: Arc<dyn Clock>,
    pool: SigningPool,
    x509: ArcSwapOption<IssuingAuthority>,
    jwt: ArcSwapOption<JwtSigner>,
}

/// The key that signs tokens, with its name and end.
pub(super) struct JwtSigner {
    pub(super) key_id: KeyId,
    pub(super) not_after: UnixTime,
    pub(super) signer: Arc<dyn Signer>,
}

/// An X.509-SVID to be signed. Nothing here comes from the CSR but its key.
#[derive(Clone, Debug)]
pub struct X509Request {
    /// Whose it is.
    pub id: SpiffeId,
    /// The holder's key, whose possession was proven.
    pub public_key: PublicKey,
    /// DNS names to put into it.
    pub dns_names: Vec<DnsName>,
    /// The subject; usually the usual one.
    pub subject: Subject,
    /// For whom it is, as far as its lifetime goes.
    pub holder: Holder,
    /// How long it shall live; by default as configured.
    pub lifetime: Option<Lifetime>,
}

/// A JWT-SVID to be signed.
#[derive(Clone, Debug)]
pub struct JwtRequest {
    /// Whose it is.
    pub id: SpiffeId,
    /// For whom it is.
    pub audience: Audience,
    /// How long it shall live; by default as configured.
    pub lifetime: Option<Lifetime>,
    /// Whether it has a number of its own.
    pub token_id: TokenId,
}

/// An authority that was signed for a downstream server.
#[derive(Clone, Debug)]
pub struct SignedAuthority {
    /// Its certificate, and those between it and the root.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its certificate, taken apart.
    pub authority: X509Authority,
}

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// No authority of this kind is active.
    #[error("no active authority for {0}")]
    NoAuthority(TrustDomain),
    /// The signing pool is full, or a job broke.
    #[error(transparent)]
    Pool(#[from] SigningPoolError),
    /// This server signs no tokens.
    #[error("JWT functionality is disabled")]
    TokensDisabled,
    /// A longer life was asked for than is allowed.
    #[error(transparent)]
    Lifetime(#[from] OverCapError),
    /// The certificate could not be made.
    #[error("signing an X.509-SVID")]
    X509(#[source] IssueError),
    /// The authority could not be made.
    #[error("signing an authority of a downstream server")]
    Downstream(#[source] IssueError),
    /// The token could not be made.
    #[error("signing a JWT-SVID")]
    Jwt(#[source] IssueJwtError),
}

impl Ca {
    /// A CA that has no authority yet.
    pub fn new(
        trust_domain: TrustDomain,
        lifetimes: Lifetimes,
        tokens: Tokens,
        clock: Arc<dyn Clock>,
        pool: SigningPool,
    ) -> Self {
        let (x509, jwt) = (ArcSwapOption::empty(), ArcSwapOption::empty());
        Self {
            inner: Arc::new(Inner {
                trust_domain,
                lifetimes,
                tokens,
                clock,
                pool,
                x509,
                jwt,
            }),
        }
    }

    /// The threads that use keys. Whatever costs a public-key operation belongs there, checking a CSR too.
    pub fn pool(&self) -> &SigningPool {
        &self.inner.pool
    }

    /// Whether tokens are signed at all.
    pub fn signs_tokens(&self) -> bool {
        self.inner.tokens != Tokens::Disabled
    }

    /// The lifetimes that requests are held to.
    pub fn lifetimes(&self) -> &Lifetimes {
        &self.inner.lifetimes
    }

    /// Signs an X.509-SVID.
    pub async fn sign_x509_svid(&self, request: X509Request) -> Result<X509Svid, SignError> {
        let job = self.x509_job(request)?;
        self.inner.pool.run(job).await?
    }

    /// The work of signing an X.509-SVID, for those who are on the signing pool already. It blocks.
    pub fn x509_job(
        &self,
        request: X509Request,
    ) -> Result<impl FnOnce() -> Result<X509Svid, SignError> + Send + 'static, SignError> {
        let lifetime = self.inner.lifetimes.x509(request.holder, request.lifetime)?;
        let authority = self.inner.x509.load_full().ok_or_else(|| self.no_authority())?;
        let profile = X509SvidProfile {
            id: request.id,
            public_key: request.public_key,
            dns_names: request.dns_names,
            subject: request.subject,
            now: self.inner.clock.now(),
            lifetime,
        };
        Ok(move || issue_x509_svid(&authority, &profile).map_err(SignError::X509))
    }

    /// Signs an authority of a downstream server, below the active one. It blocks: call it on the signing pool.
    pub fn sign_downstream(
        &self,
        public_key: PublicKey,
        lifetime: Lifetime,
    ) -> Result<SignedAuthority, SignError> {
        let issuer = self.inner.x509.load_full().ok_or_else(|| self.no_authority())?;
        let profile = IntermediateProfile {
            trust_domain: self.inner.trust_domain.clone(),
            public_key,
            subject: IntermediateSubject::BelowIssuer,
            now: self.inner.clock.now(),
            lifetime,
        };
        let chain = issue_intermediate(&issuer, &profile).map_err(SignError::Downstream)?;
        let authority = chain.first().ok_or(IssueError::NotAsAsked);
        let authority = authority.and_then(|first| Ok(X509Authority::from_der(first)?));
        let authority = authority.map_err(SignError::Downstream)?;
        Ok(SignedAuthority { chain, authority })
    }

    /// Signs a JWT-SVID.
    pub async fn sign_jwt_svid(&self, request: JwtRequest) -> Result<JwtSvid, SignError> {
        let Tokens::Signed { issuer } = &self.inner.tokens else {
            return Err(SignError::TokensDisabled);
        };
        let lifetime = self.inner.lifetimes.jwt(request.lifetime)?;
        let authority = self.inner.jwt.load_full().ok_or_else(|| self.no_authority())?;
        let now = self.inner.clock.now();
        let profile = JwtSvidProfile {
            id: request.id,
            audience: request.audience,
            issuer: issuer.clone(),
            issued_at: now,
            // I8: no token outlives the key that verifies it.
            expires_at: now.saturating_add(lifetime.duration()).min(authority.not_after),
            token_id: request.token_id,
        };
        let job = move || issue_jwt_svid(&*authority.signer, &authority.key_id, &profile);
        self.inner.pool.run(job).await?.map_err(SignError::Jwt)
    }

    pub(super) fn activate_x509(&self, authority: Option<IssuingAuthority>) {
        self.inner.x509.store(authority.map(Arc::new));
    }

    pub(super) fn activate_jwt(&self, signer: Option<JwtSigner>) {
        self.inner.jwt.store(signer.map(Arc::new));
    }

    /// Whether the authority of this kind and id signs now.
    pub(super) fn signs_with(&self, kind: Kind, id: &str) -> bool {
        match kind {
            Kind::X509 => self
                .inner
                .x509
                .load()
                .as_ref()
                .is_some_and(|held| held.authority().id().as_str() == id),
            Kind::Jwt => self
                .inner
                .jwt
                .load()
                .as_ref()
                .is_some_and(|held| held.key_id.as_str() == id),
        }
    }

    /// Whether what is installed for this kind counts now.
    pub(super) fn signs_now(&self, kind: Kind) -> bool {
        let now = self.inner.clock.now();
        match kind {
            Kind::X509 => self
                .inner
                .x509
                .load()
                .as_ref()
                .is_some_and(|held| held.ends() > now),
            Kind::Jwt => self
                .inner
                .jwt
                .load()
                .as_ref()
                .is_some_and(|held| held.not_after > now),
        }
    }

    fn no_authority(&self) -> SignError {
        SignError::NoAuthority(self.inner.trust_domain.clone())
    }
}

impl std::fmt::Debug for Ca {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ca")
            .field("trust_domain", &self.inner.trust_domain)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
