use std::fmt;

use zeroize::Zeroizing;

use crate::purpose::Purpose;

/// Something that can make bytes unreadable for everybody else, and readable again. It may block.
pub trait Seal: Send + Sync {
    /// What holds the key.
    fn kind(&self) -> SealKind;

    /// Seals `secret` for `purpose`. Two calls never give the same bytes.
    ///
    /// # Errors
    /// When the holder of the key fails.
    fn seal(&self, purpose: &Purpose, secret: &[u8]) -> Result<Vec<u8>, SealError>;

    /// Opens what was sealed for the same `purpose`.
    ///
    /// # Errors
    /// When it was sealed by another key, for another purpose, or was changed since.
    fn unseal(&self, purpose: &Purpose, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError>;
}

/// What holds the key of a seal: said by the daemon at its start.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum SealKind {
    /// A file of mode 0400.
    KeyFile,
}

impl fmt::Display for SealKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KeyFile => "key file",
        })
    }
}

/// Why nothing was sealed or opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SealError {
    /// Not a sealed value at all.
    #[error("this is not a sealed value")]
    Malformed,
    /// Sealed by a newer version of this program, or by another kind of seal.
    #[error("the value was sealed in a form ({0}) that this program does not know")]
    Form(u8),
    /// The key, the purpose or the bytes are others. Which of them cannot be told, by anybody.
    #[error(
        "the value does not open: it was sealed with another key or for another purpose, or was changed since"
    )]
    Closed,
    /// More than is ever sealed.
    #[error("{0} bytes are more than is sealed")]
    TooLong(usize),
    /// The random generator or the cipher failed.
    #[error("the cryptographic library failed")]
    Library,
}
