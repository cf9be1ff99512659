use std::{fmt, str::FromStr, sync::Arc};

/// The name of a grant: 1 to 255 bytes of letters, digits, dots, dashes and underscores.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct GrantName(Arc<str>);

impl GrantName {
    /// The longest name that is accepted, in bytes.
    pub const MAX_LEN: usize = 255;

    /// The name, as it was parsed.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for GrantName {
    type Err = ParseGrantNameError;

    fn from_str(text: &str) -> Result<Self, ParseGrantNameError> {
        if text.is_empty() {
            return Err(ParseGrantNameError::Empty);
        }
        if text.len() > Self::MAX_LEN {
            return Err(ParseGrantNameError::TooLong { len: text.len() });
        }
        match text
            .chars()
            .find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')))
        {
            Some(found) => Err(ParseGrantNameError::Character { found }),
            None => Ok(Self(text.into())),
        }
    }
}

impl fmt::Display for GrantName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for GrantName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GrantName({})", self.0)
    }
}

/// Why a text is no name of a grant.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ParseGrantNameError {
    /// No name at all.
    #[error("a grant's name is empty")]
    Empty,
    /// Longer than [`GrantName::MAX_LEN`].
    #[error("a grant's name has {len} bytes, at most 255 are allowed")]
    TooLong {
        /// How long it is, in bytes.
        len: usize,
    },
    /// A character outside the set.
    #[error("a grant's name holds {found:?}, allowed are letters, digits, '.', '-' and '_'")]
    Character {
        /// The first such character.
        found: char,
    },
}
