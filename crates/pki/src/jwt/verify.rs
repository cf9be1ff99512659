use std::time::Duration;

use muster_identity::{SpiffeId, TrustDomain, UnixTime};
use serde_json::{Map, Value};

use super::{
    authority::{JwtAuthority, KeyId},
    claims::{Claims, ClaimsError},
};
use crate::jws::{Compact, CompactError};

/// How far two clocks may differ (DESIGN 6.18).
const LEEWAY: Duration = Duration::from_secs(30);
/// How many keys are tried for a token that names none (JWT-SVID 2.2 makes `kid` optional). Each try costs us a
/// signature check and the sender nothing.
const MAX_CANDIDATES: usize = 16;

/// Where the token-signing keys of a trust domain are found.
pub trait JwtBundleSource {
    /// The keys of `trust_domain`; nothing when there is no bundle for it.
    fn jwt_authorities(&self, trust_domain: &TrustDomain) -> Option<&[JwtAuthority]>;

    /// Whether this name counts here, whoever signs for it. A source may narrow a foreign trust domain to some paths.
    fn admits(&self, _id: &SpiffeId) -> bool {
        true
    }
}

impl<B: JwtBundleSource + ?Sized> JwtBundleSource for &B {
    fn jwt_authorities(&self, trust_domain: &TrustDomain) -> Option<&[JwtAuthority]> {
        (**self).jwt_authorities(trust_domain)
    }

    fn admits(&self, id: &SpiffeId) -> bool {
        (**self).admits(id)
    }
}

/// Why a token is refused. Each text names the section that says so and repeats nothing of the token.
#[derive(Debug, thiserror::Error)]
pub enum VerifyJwtError {
    /// The verifier named no audience: it would accept tokens that were meant for others.
    #[error("an audience to check against is needed (Workload API 6.2.3)")]
    NoAudience,
    /// No JWS of the right form.
    #[error(transparent)]
    Jws(#[from] CompactError),
    /// Another kind of token.
    #[error("the header's typ is neither JWT nor JOSE (JWT-SVID 2.3)")]
    Type,
    /// No JWT-SVID's claims.
    #[error(transparent)]
    Claims(#[from] ClaimsError),
    /// For somebody else.
    #[error("the audience that was asked for is not in the aud (JWT-SVID 3.2)")]
    Audience,
    /// Over.
    #[error("the token expired at {at} (JWT-SVID 3.3)")]
    Expired {
        /// When.
        at: UnixTime,
    },
    /// Not yet.
    #[error("the token is not valid before {at} (RFC 7519 4.1.5)")]
    NotYet {
        /// When it will be.
        at: UnixTime,
    },
    /// Nobody said which keys sign for that trust domain.
    #[error("there is no bundle for the trust domain {0} (Workload API 6.3)")]
    NoBundle(TrustDomain),
    /// The named key is not in the bundle, or there is none that could have signed.
    #[error("the bundle of {0} has no key that this token could be signed with (JWT-SVID 4)")]
    NoKey(TrustDomain),
    /// The signature is wrong.
    #[error("the signature is not that of a key in the bundle of {0} (JWT-SVID 4)")]
    Signature(TrustDomain),
    /// A genuine name that does not count here.
    #[error("the trust domain {0} is narrowed here to paths that the token's subject does not lie under")]
    OutOfScope(TrustDomain),
}

/// What a token was found to say. It is all that is to be used of it.
#[derive(Clone, Debug)]
pub struct VerifiedJwtSvid {
    claims: Claims,
    key_id: KeyId,
}

impl VerifiedJwtSvid {
    /// Whose token it is.
    pub fn id(&self) -> &SpiffeId {
        &self.claims.id
    }

    /// For whom it is, as the token says.
    pub fn audience(&self) -> &[String] {
        &self.claims.audience
    }

    /// When it ends.
    pub fn expires_at(&self) -> UnixTime {
        self.claims.expires_at
    }

    /// When it was issued, if it says.
    pub fn issued_at(&self) -> Option<UnixTime> {
        self.claims.issued_at
    }

    /// Who issued it, if it says.
    pub fn issuer(&self) -> Option<&str> {
        self.claims.issuer.as_deref()
    }

    /// Its own number, if it has one.
    pub fn token_id(&self) -> Option<&str> {
        self.claims.token_id.as_deref()
    }

    /// The key that signed it.
    pub fn key_id(&self) -> &KeyId {
        &self.key_id
    }

    /// Every claim, the named ones too.
    pub fn claims(&self) -> &Map<String, Value> {
        &self.claims.all
    }
}

/// Checks a token by JWT-SVID 4 and 5: form, type, claims, times (30 s leeway), audience, and the signature by a key
/// that the bundle of the subject's own trust domain has for JWT-SVIDs.
///
/// # Errors
/// Says which rule the token breaks; nothing of the token is to be used then.
pub fn verify_jwt_svid(
    token: &str,
    bundles: &(impl JwtBundleSource + ?Sized),
    audience: &str,
    now: UnixTime,
) -> Result<VerifiedJwtSvid, VerifyJwtError> {
    if audience.is_empty() {
        return Err(VerifyJwtError::NoAudience);
    }
    let jws = Compact::parse(token)?;
    if !matches!(jws.typ(), None | Some("JWT" | "JOSE")) {
        return Err(VerifyJwtError::Type);
    }
    let claims = Claims::parse(jws.unverified_payload())?;
    check_times(&claims, now)?;
    if !claims.audience.iter().any(|name| name == audience) {
        return Err(VerifyJwtError::Audience);
    }
    // The subject chooses the bundle, and no other bundle is looked at: else one trust domain could speak for another.
    let trust_domain = claims.id.trust_domain();
    let authorities = bundles
        .jwt_authorities(trust_domain)
        .ok_or_else(|| VerifyJwtError::NoBundle(trust_domain.clone()))?;
    let candidates: Vec<&JwtAuthority> = authorities
        .iter()
        .filter(|authority| jws.key_id().is_none_or(|kid| kid == authority.key_id().as_str()))
        .filter(|authority| authority.permits(jws.algorithm()))
        .take(MAX_CANDIDATES)
        .collect();
    if candidates.is_empty() {
        return Err(VerifyJwtError::NoKey(trust_domain.clone()));
    }
    let signer = candidates
        .into_iter()
        .find(|authority| jws.verify(authority.public_key()).is_ok());
    match signer {
        Some(_) if !bundles.admits(&claims.id) => Err(VerifyJwtError::OutOfScope(trust_domain.clone())),
        Some(authority) => Ok(VerifiedJwtSvid {
            key_id: authority.key_id().clone(),
            claims,
        }),
        None => Err(VerifyJwtError::Signature(trust_domain.clone())),
    }
}

fn check_times(claims: &Claims, now: UnixTime) -> Result<(), VerifyJwtError> {
    if now >= claims.expires_at.saturating_add(LEEWAY) {
        return Err(VerifyJwtError::Expired {
            at: claims.expires_at,
        });
    }
    match claims.not_before {
        Some(at) if now.saturating_add(LEEWAY) < at => Err(VerifyJwtError::NotYet { at }),
        _ => Ok(()),
    }
}
