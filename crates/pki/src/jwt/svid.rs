use std::{fmt, sync::Arc};

use muster_identity::{SpiffeId, UnixTime};
use zeroize::Zeroizing;

use super::{
    authority::KeyId,
    claims::{Claims, ClaimsError},
};
use crate::jws::{Compact, CompactError};

/// A JWT-SVID together with what it says. The token is a bearer secret: it is not printed, and zeroed when the
/// last clone goes.
#[derive(Clone)]
pub struct JwtSvid {
    token: Arc<Zeroizing<String>>,
    id: SpiffeId,
    audience: Vec<String>,
    issued_at: Option<UnixTime>,
    expires_at: UnixTime,
    key_id: Option<KeyId>,
}

/// Why a text is no JWT-SVID.
#[derive(Debug, thiserror::Error)]
pub enum ParseJwtSvidError {
    /// No JWS of the right form.
    #[error(transparent)]
    Jws(#[from] CompactError),
    /// No JWT-SVID's claims.
    #[error(transparent)]
    Claims(#[from] ClaimsError),
    /// A key id that nobody would use.
    #[error("the kid is empty or too long")]
    KeyId,
}

impl JwtSvid {
    /// Reads a token without checking its signature, times or audience: for one that came from the own server over an
    /// authenticated connection. What others present goes to [`super::verify_jwt_svid`].
    ///
    /// # Errors
    /// When it has not the form of a JWT-SVID.
    pub fn parse_unverified(token: String) -> Result<Self, ParseJwtSvidError> {
        let token = Zeroizing::new(token);
        let jws = Compact::parse(&token)?;
        let claims = Claims::parse(jws.unverified_payload())?;
        let key_id = jws
            .key_id()
            .map(|kid| kid.parse().map_err(|_| ParseJwtSvidError::KeyId))
            .transpose()?;
        Ok(Self {
            token: Arc::new(token),
            id: claims.id,
            audience: claims.audience,
            issued_at: claims.issued_at,
            expires_at: claims.expires_at,
            key_id,
        })
    }

    /// The token itself: what leaves for its owner, and nothing else may print.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Whose it is.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// For whom it is.
    pub fn audience(&self) -> &[String] {
        &self.audience
    }

    /// When it was issued. Ours always say.
    pub fn issued_at(&self) -> Option<UnixTime> {
        self.issued_at
    }

    /// When it ends.
    pub fn expires_at(&self) -> UnixTime {
        self.expires_at
    }

    /// Which authority signed it. Ours always say.
    pub fn key_id(&self) -> Option<&KeyId> {
        self.key_id.as_ref()
    }
}

impl fmt::Debug for JwtSvid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtSvid")
            .field("id", &self.id)
            .field("audience", &self.audience)
            .field("expires_at", &self.expires_at)
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}
