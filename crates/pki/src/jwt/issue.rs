use aws_lc_rs::rand;
use muster_identity::{SpiffeId, UnixTime};
use serde::Serialize;

use super::{
    audience::Audience,
    authority::KeyId,
    svid::{JwtSvid, ParseJwtSvidError},
};
use crate::{
    jws::{Algorithm, JwsSignError, sign_compact},
    signer::Signer,
};

/// What a token shall say.
#[derive(Clone, Debug)]
pub struct JwtSvidProfile {
    /// Whose it is.
    pub id: SpiffeId,
    /// For whom it is.
    pub audience: Audience,
    /// Who says so: a URL. Without one it is `https://<trust domain>`: OAuth servers and model providers refuse tokens
    /// without `iss`, and look for the keys below that URL.
    pub issuer: Option<String>,
    /// When it is issued.
    pub issued_at: UnixTime,
    /// When it ends. The caller has cut it to what policy and the signing key's own end allow.
    pub expires_at: UnixTime,
    /// Whether it has a number of its own.
    pub token_id: TokenId,
}

/// Whether a token has a number of its own (`jti`), so that its use can be counted or ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TokenId {
    /// No number.
    Absent,
    /// 128 random bits.
    Random,
}

/// Why no token was issued.
#[derive(Debug, thiserror::Error)]
pub enum IssueJwtError {
    /// A trust domain's own ID names no workload.
    #[error("{0} has no path: a trust domain is not a workload (JWT-SVID 3.1)")]
    Subject(SpiffeId),
    /// It would end before it begins.
    #[error("the token would end before it is issued")]
    Lifetime,
    /// An issuer that is no URL of the allowed form.
    #[error("the issuer is empty or longer than 2048 bytes")]
    Issuer,
    /// The key is of a kind that may not sign tokens.
    #[error("a key of this kind does not sign tokens (JWT-SVID 2.1)")]
    Key,
    /// No random bytes.
    #[error("no random bytes")]
    Random,
    /// Signing failed.
    #[error(transparent)]
    Sign(#[from] JwsSignError),
    /// What we made does not pass our own reader.
    #[error("the token that was made is not a JWT-SVID")]
    SelfCheck(#[from] ParseJwtSvidError),
}

/// The claims in the order in which they are written. One audience is still a list: every reader takes a list, some
/// take nothing else.
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: String,
    aud: &'a [String],
    exp: i64,
    iat: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    jti: Option<String>,
}

/// Signs a JWT-SVID (JWT-SVID 2, 3): header `alg`, `kid`, `typ`; claims `iss`, `sub`, `aud`, `exp`, `iat`, and `jti`
/// on request. May block as long as the key's holder does: call it on the signing pool.
///
/// # Errors
/// When the profile is no token's, or signing fails.
pub fn issue_jwt_svid(
    signer: &dyn Signer,
    key_id: &KeyId,
    profile: &JwtSvidProfile,
) -> Result<JwtSvid, IssueJwtError> {
    if profile.id.is_trust_domain_id() {
        return Err(IssueJwtError::Subject(profile.id.clone()));
    }
    if profile.expires_at <= profile.issued_at {
        return Err(IssueJwtError::Lifetime);
    }
    let default_issuer;
    let iss = match &profile.issuer {
        Some(issuer) => issuer.as_str(),
        None => {
            default_issuer = format!("https://{}", profile.id.trust_domain());
            &default_issuer
        }
    };
    if iss.is_empty() || iss.len() > 2048 {
        return Err(IssueJwtError::Issuer);
    }
    let jti = match profile.token_id {
        TokenId::Absent => None,
        TokenId::Random => Some(random_id()?),
    };
    let claims = Claims {
        iss,
        sub: profile.id.to_string(),
        aud: profile.audience.names(),
        exp: profile.expires_at.as_secs(),
        iat: profile.issued_at.as_secs(),
        jti,
    };
    let payload = serde_json::to_vec(&claims).map_err(|_| JwsSignError::Malformed)?;
    let algorithm = Algorithm::for_key(signer.public_key().kind()).ok_or(IssueJwtError::Key)?;
    let token = sign_compact(signer, algorithm, Some(key_id.as_str()), Some("JWT"), &payload)?;
    // Reads its own work back: what a strict reader refuses must not leave, whatever went into the profile.
    Ok(JwtSvid::parse_unverified(token)?)
}

fn random_id() -> Result<String, IssueJwtError> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|_| IssueJwtError::Random)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
