use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use nix::{libc, unistd::geteuid};
use zeroize::Zeroizing;

use crate::{
    aead::{KEY_LEN, SealingKey},
    atomic::{self, Existing},
    purpose::Purpose,
    seal::{Seal, SealError, SealKind},
};

/// The mode of a key file: its owner reads it, nobody writes it.
const MODE: u32 = 0o400;
/// What a key file begins with: kind and version.
const MAGIC: &[u8; 16] = b"muster-sealkey-1";

/// A seal whose key lies in a file that only its owner can read.
pub struct KeyFile {
    path: PathBuf,
    key: SealingKey,
}

/// Why a key file is not used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It is not there.
    #[error("{}: there is no key file", .0.display())]
    Missing(PathBuf),
    /// It is a link, a folder or a device.
    #[error("{}: the key file is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// Others can read or write it.
    #[error("{}: the key file has mode {mode:04o}: others than its owner may use it. Make a new key, or run: chmod 0400", path.display())]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Somebody else can change it.
    #[error("{}: the key file belongs to uid {uid}, this process runs as uid {wanted}", path.display())]
    Owner {
        /// The file.
        path: PathBuf,
        /// Who owns it.
        uid: u32,
        /// Who should.
        wanted: u32,
    },
    /// Not a key.
    #[error("{}: this is not a key file", .0.display())]
    Malformed(PathBuf),
    /// No random bytes for a new key.
    #[error("making a key")]
    Random(#[source] SealError),
    /// The operating system refused.
    #[error("{}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Its answer.
        source: io::Error,
    },
}

impl KeyFile {
    /// Opens a key file.
    ///
    /// # Errors
    /// When it is missing, no key, or anybody but this process's user could have read or changed it.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, KeyFileError> {
        let path = path.into();
        let key = read(&path)?;
        Ok(Self { path, key })
    }

    /// Opens a key file, or makes one with a random key when there is none.
    ///
    /// # Errors
    /// As [`KeyFile::open`], and when the file cannot be made.
    pub fn open_or_create(path: impl Into<PathBuf>) -> Result<Self, KeyFileError> {
        let path = path.into();
        match read(&path) {
            Err(KeyFileError::Missing(_)) => {}
            Err(error) => return Err(error),
            Ok(key) => return Ok(Self { path, key }),
        }
        let key = SealingKey::random().map_err(KeyFileError::Random)?;
        let mut content = Zeroizing::new(Vec::with_capacity(MAGIC.len() + KEY_LEN));
        content.extend_from_slice(MAGIC);
        content.extend_from_slice(key.bytes());
        match atomic::write(&path, &content, MODE, Existing::Keep) {
            Ok(()) => Ok(Self { path, key }),
            // Somebody was faster: theirs is the key, ours was never used.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Self::open(path),
            Err(source) => Err(KeyFileError::Io { path, source }),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Seal for KeyFile {
    fn kind(&self) -> SealKind {
        SealKind::KeyFile
    }

    fn seal(&self, purpose: &Purpose, secret: &[u8]) -> Result<Vec<u8>, SealError> {
        self.key.seal(purpose, secret)
    }

    fn unseal(&self, purpose: &Purpose, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        self.key.unseal(purpose, sealed)
    }
}

impl fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyFile")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

fn read(path: &Path) -> Result<SealingKey, KeyFileError> {
    let io = |source| KeyFileError::Io {
        path: path.to_owned(),
        source,
    };
    // O_NOFOLLOW: a link would let whoever owns it choose our key. O_NONBLOCK: a fifo must not hold us.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path);
    let mut file = match file {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(KeyFileError::Missing(path.to_owned()));
        }
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
            return Err(KeyFileError::NotAFile(path.to_owned()));
        }
        Err(source) => return Err(io(source)),
    };
    check(path, &file)?;
    // Exactly one key, and one byte more to see that nothing follows.
    let mut content = Zeroizing::new([0; MAGIC.len() + KEY_LEN + 1]);
    let length = read_up_to(&mut file, content.as_mut()).map_err(io)?;
    let malformed = || KeyFileError::Malformed(path.to_owned());
    let key = content[..length]
        .strip_prefix(MAGIC.as_slice())
        .ok_or_else(malformed)?;
    let mut bytes = Zeroizing::new([0; KEY_LEN]);
    if key.len() != KEY_LEN {
        return Err(malformed());
    }
    bytes.copy_from_slice(key);
    Ok(SealingKey::new(bytes))
}

/// Looks at the file that was opened, not at the path: that one may be another by now.
fn check(path: &Path, file: &File) -> Result<(), KeyFileError> {
    let found = file.metadata().map_err(|source| KeyFileError::Io {
        path: path.to_owned(),
        source,
    })?;
    if !found.is_file() {
        return Err(KeyFileError::NotAFile(path.to_owned()));
    }
    let wanted = geteuid().as_raw();
    if found.uid() != wanted {
        return Err(KeyFileError::Owner {
            path: path.to_owned(),
            uid: found.uid(),
            wanted,
        });
    }
    let mode = found.mode() & 0o7777;
    // The owner may have given itself the right to write (0600); nobody else may have any.
    if mode & !0o600 != 0 {
        return Err(KeyFileError::Mode {
            path: path.to_owned(),
            mode,
        });
    }
    Ok(())
}

fn read_up_to(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

#[cfg(test)]
mod tests;
