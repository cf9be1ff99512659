//! Where the server's keys live.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use async_trait::async_trait;
use muster_pki::{KeyAlgorithm, Signer};

/// Makes keys, finds them again, and signs with them. Keys never leave it.
///
/// The [`Signer`]s it hands out are synchronous and may block: they are called on the signing pool only. A signer stays usable as long as
/// somebody holds it, also after its key was deleted.
#[async_trait]
pub trait KeyManager: Send + Sync {
    /// The plugin's name in configuration, logs and metrics.
    fn name(&self) -> &'static str;

    /// Makes a key under `name`; it is durable when this returns. An existing key is never replaced: [`KeyManagerError::Exists`].
    async fn generate(
        &self,
        name: &KeyName,
        algorithm: KeyAlgorithm,
    ) -> Result<Arc<dyn Signer>, KeyManagerError>;

    /// The key under `name`, or `None` if there is none.
    async fn load(&self, name: &KeyName) -> Result<Option<Arc<dyn Signer>>, KeyManagerError>;

    /// The names of all keys, sorted.
    async fn list(&self) -> Result<Vec<KeyName>, KeyManagerError>;

    /// Forgets the key under `name`; it is no error if there is none.
    async fn delete(&self, name: &KeyName) -> Result<(), KeyManagerError>;
}

/// A key's name: 1 to 64 letters, digits, `-`, `_` and `.`, not beginning with `.`, so that it can be a file name anywhere.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct KeyName(Arc<str>);

/// A text that is no key name.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a key name has 1 to 64 letters, digits, '-', '_' or '.' and does not begin with '.'")]
pub struct ParseKeyNameError;

/// Why a key manager could not do it.
#[derive(Debug, thiserror::Error)]
pub enum KeyManagerError {
    /// There is a key of this name already.
    #[error("key {0} exists already")]
    Exists(KeyName),
    /// This key manager does not make such keys.
    #[error("{0:?} keys are not supported")]
    Unsupported(KeyAlgorithm),
    /// What is stored is not the key that was written: somebody must look.
    #[error("the stored key {key} is damaged")]
    Damaged {
        /// Which key.
        key: KeyName,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The place where keys live can't be reached or written now.
    #[error("{what}")]
    Unavailable {
        /// What was being done.
        what: String,
        /// Why that failed.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl KeyName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KeyName {
    type Err = ParseKeyNameError;

    fn from_str(text: &str) -> Result<Self, ParseKeyNameError> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if (1..=64).contains(&text.len()) && !text.starts_with('.') && text.bytes().all(fits) {
            Ok(Self(text.into()))
        } else {
            Err(ParseKeyNameError)
        }
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl KeyManagerError {
    /// Whether the same request may succeed later.
    pub fn may_retry(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_name_can_be_a_file_name() {
        for text in ["a", "x509-CA_1.pending", &"k".repeat(64)] {
            assert_eq!(text.parse::<KeyName>().unwrap().as_str(), text);
        }
        for text in ["", ".", "..", ".hidden", "a/b", "a b", "ä", &"k".repeat(65)] {
            assert_eq!(text.parse::<KeyName>(), Err(ParseKeyNameError), "{text}");
        }
    }
}
