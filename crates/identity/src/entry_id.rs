use std::{fmt, str::FromStr, sync::Arc};

/// The name of an entry: 1 to 255 bytes of letters, digits, dots, dashes and underscores, as SPIRE has it.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct EntryId(Arc<str>);

impl EntryId {
    /// The longest ID that is accepted, in bytes.
    pub const MAX_LEN: usize = 255;

    /// The ID, as it was parsed.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for EntryId {
    type Err = ParseEntryIdError;

    fn from_str(text: &str) -> Result<Self, ParseEntryIdError> {
        if text.is_empty() {
            return Err(ParseEntryIdError::Empty);
        }
        if text.len() > Self::MAX_LEN {
            return Err(ParseEntryIdError::TooLong { len: text.len() });
        }
        match text
            .chars()
            .find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')))
        {
            Some(found) => Err(ParseEntryIdError::Character { found }),
            None => Ok(Self(text.into())),
        }
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EntryId({})", self.0)
    }
}

/// Why a text is no entry ID.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ParseEntryIdError {
    /// No ID at all.
    #[error("entry ID is empty")]
    Empty,
    /// Longer than [`EntryId::MAX_LEN`].
    #[error("entry ID has {len} bytes, at most 255 are allowed")]
    TooLong {
        /// How long it is, in bytes.
        len: usize,
    },
    /// A character outside the set.
    #[error("entry ID holds {found:?}, allowed are letters, digits, '.', '-' and '_'")]
    Character {
        /// The first such character.
        found: char,
    },
}
