use std::{fmt, str::FromStr, sync::Arc};

use muster_identity::UnixTime;

use crate::{jws::Algorithm, key::PublicKey};

/// The name of a token-signing key: `kid` (RFC 7517 4.5). Compared byte by byte. Clones are cheap.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct KeyId(Arc<str>);

impl KeyId {
    /// The longest that is read.
    pub const MAX_LEN: usize = 1024;

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What is no key id.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a key id has 1 to 1024 bytes, not {len}")]
pub struct ParseKeyIdError {
    len: usize,
}

impl FromStr for KeyId {
    type Err = ParseKeyIdError;

    fn from_str(text: &str) -> Result<Self, ParseKeyIdError> {
        if text.is_empty() || text.len() > Self::MAX_LEN {
            return Err(ParseKeyIdError { len: text.len() });
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({:?})", &self.0)
    }
}

/// A key that signs a trust domain's JWT-SVIDs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct JwtAuthority {
    key_id: KeyId,
    public_key: PublicKey,
    algorithm: Option<Algorithm>,
    expires_at: Option<UnixTime>,
    tainted: bool,
}

impl JwtAuthority {
    /// A key and its name, for every algorithm of its kind, without an end and not tainted.
    pub fn new(key_id: KeyId, public_key: PublicKey) -> Self {
        Self {
            key_id,
            public_key,
            algorithm: None,
            expires_at: None,
            tainted: false,
        }
    }

    /// The one algorithm that it is for (RFC 7517 4.4).
    #[must_use]
    pub fn with_algorithm(mut self, algorithm: Option<Algorithm>) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// When it stops signing; bundle documents do not carry it.
    #[must_use]
    pub fn with_expiry(mut self, expires_at: Option<UnixTime>) -> Self {
        self.expires_at = expires_at;
        self
    }

    /// Whether what it signed is to be replaced.
    #[must_use]
    pub fn with_taint(mut self, tainted: bool) -> Self {
        self.tainted = tainted;
        self
    }

    /// Its name.
    pub fn key_id(&self) -> &KeyId {
        &self.key_id
    }

    /// Its public key.
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// Whether a token with this algorithm may be checked with it.
    pub fn permits(&self, algorithm: Algorithm) -> bool {
        algorithm.fits(self.public_key.kind()) && self.algorithm.is_none_or(|only| only == algorithm)
    }

    /// When it stops signing, where that is known.
    pub fn expires_at(&self) -> Option<UnixTime> {
        self.expires_at
    }

    /// Whether what it signed is to be replaced. Tokens that are out count until the key leaves the bundle.
    pub fn tainted(&self) -> bool {
        self.tainted
    }
}
