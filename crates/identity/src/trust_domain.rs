use std::{fmt, str::FromStr, sync::Arc};

use crate::{IdPath, SpiffeId};

/// The name of a trust domain: `example.org`, without scheme or path.
///
/// 1 to 255 bytes of lower-case letters, digits, dots, dashes and underscores (SPIFFE-ID 2.1, 2.3). No DNS rules
/// apply beyond that. Upper case is refused, not folded. Clones are cheap.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// The longest name that is accepted, in bytes (SPIFFE-ID 2.3).
    pub const MAX_LEN: usize = 255;

    /// The name, as it was parsed.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The trust domain's own SPIFFE ID: `spiffe://<name>`, without a path.
    pub fn id(&self) -> SpiffeId {
        SpiffeId::new(self.clone(), IdPath::root())
            .expect("scheme, 255 bytes and no path are within 2048 bytes")
    }

    /// `spiffe://<name><path>`: refused when the whole is longer than 2048 bytes.
    pub fn member(&self, path: IdPath) -> Result<SpiffeId, crate::ParseIdError> {
        SpiffeId::new(self.clone(), path)
    }
}

impl FromStr for TrustDomain {
    type Err = ParseTrustDomainError;

    fn from_str(text: &str) -> Result<Self, ParseTrustDomainError> {
        if text.is_empty() {
            return Err(ParseTrustDomainError::Empty);
        }
        if text.len() > Self::MAX_LEN {
            return Err(ParseTrustDomainError::TooLong { len: text.len() });
        }
        match text
            .chars()
            .find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '.' | '-' | '_'))
        {
            Some(found) => Err(ParseTrustDomainError::Character { found }),
            None => Ok(Self(text.into())),
        }
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrustDomain({})", self.0)
    }
}

/// Why a text is no trust domain name.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ParseTrustDomainError {
    /// No name at all.
    #[error("trust domain is empty (SPIFFE-ID 2.1)")]
    Empty,
    /// Longer than [`TrustDomain::MAX_LEN`].
    #[error("trust domain has {len} bytes, at most 255 are allowed (SPIFFE-ID 2.3)")]
    TooLong {
        /// How long it is, in bytes.
        len: usize,
    },
    /// A character outside the set.
    #[error("trust domain holds {found:?}, allowed are a-z, 0-9, '.', '-' and '_' (SPIFFE-ID 2.1)")]
    Character {
        /// The first such character.
        found: char,
    },
}
