use std::{fmt, str::FromStr, sync::Arc};

/// What an operator tells a workload about one of its identities (Workload API 8): 1 to 1024 bytes, opaque.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Hint(Arc<str>);

impl Hint {
    /// The longest hint that is accepted, in bytes (Workload API 8).
    pub const MAX_LEN: usize = 1024;

    /// The hint, as it was parsed.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Hint {
    type Err = ParseHintError;

    fn from_str(text: &str) -> Result<Self, ParseHintError> {
        if text.is_empty() {
            return Err(ParseHintError::Empty);
        }
        if text.len() > Self::MAX_LEN {
            return Err(ParseHintError::TooLong { len: text.len() });
        }
        if text.chars().any(char::is_control) {
            return Err(ParseHintError::ControlCharacter);
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is no hint.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ParseHintError {
    /// Nothing to hint at: leave the hint out instead.
    #[error("hint is empty")]
    Empty,
    /// Longer than [`Hint::MAX_LEN`].
    #[error("hint has {len} bytes, at most 1024 are allowed (Workload API 8)")]
    TooLong {
        /// How long it is, in bytes.
        len: usize,
    },
    /// A control character: logs and terminals would suffer.
    #[error("hint holds a control character")]
    ControlCharacter,
}
