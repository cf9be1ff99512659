use std::{
    fmt,
    fs::OpenOptions,
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use nix::{libc, unistd::geteuid};
use zeroize::Zeroizing;

use crate::{
    atomic::{self, Existing},
    purpose::Purpose,
    seal::{Seal, SealError},
};

/// The mode of a sealed file. What is in it is of no use without the seal; that nobody else reads it costs nothing.
const MODE: u32 = 0o600;
/// The longest that is read.
const MAX_FILE: u64 = (64 << 20) + 128;

/// One secret in one file.
#[derive(Clone)]
pub struct SealedFile {
    path: PathBuf,
    purpose: Purpose,
    seal: Arc<dyn Seal>,
}

/// Why a sealed file was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum SealedFileError {
    /// The seal refused.
    #[error("{}", path.display())]
    Seal {
        /// The file.
        path: PathBuf,
        /// Why.
        source: SealError,
    },
    /// Somebody else could have put it there, or could read it.
    #[error("{}: mode {mode:04o} and owner {uid} are not those of a file of ours (0600, our own uid)", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// Its owner.
        uid: u32,
    },
    /// The operating system refused.
    #[error("{}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Its answer.
        source: io::Error,
    },
}

impl SealedFile {
    /// The file at `path`, whether or not it is there yet.
    pub fn new(path: impl Into<PathBuf>, purpose: Purpose, seal: Arc<dyn Seal>) -> Self {
        Self {
            path: path.into(),
            purpose,
            seal,
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the secret; nothing when there is no file.
    ///
    /// # Errors
    /// When the file is not ours or does not open. It is left as it is.
    pub fn read(&self) -> Result<Option<Zeroizing<Vec<u8>>>, SealedFileError> {
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(self.io(source)),
        };
        let found = file.metadata().map_err(|source| self.io(source))?;
        let mode = found.mode() & 0o7777;
        if !found.is_file() || found.uid() != geteuid().as_raw() || mode & !0o600 != 0 {
            return Err(SealedFileError::Foreign {
                path: self.path.clone(),
                mode,
                uid: found.uid(),
            });
        }
        let mut sealed = Vec::new();
        file.take(MAX_FILE)
            .read_to_end(&mut sealed)
            .map_err(|source| self.io(source))?;
        self.seal
            .unseal(&self.purpose, &sealed)
            .map(Some)
            .map_err(|source| self.refused(source))
    }

    /// Seals `secret` into the file, in the place of what was there; durable when this returns.
    ///
    /// # Errors
    /// When it could not be sealed or written. What was there is untouched then.
    pub fn write(&self, secret: &[u8]) -> Result<(), SealedFileError> {
        self.put(secret, Existing::Replace)
    }

    /// As [`SealedFile::write`], but never over a file that is there ([`io::ErrorKind::AlreadyExists`]).
    ///
    /// # Errors
    /// As [`SealedFile::write`], and when there is a file.
    pub fn create(&self, secret: &[u8]) -> Result<(), SealedFileError> {
        self.put(secret, Existing::Keep)
    }

    /// Removes the file; durable when this returns.
    ///
    /// # Errors
    /// The operating system's.
    pub fn remove(&self) -> Result<(), SealedFileError> {
        atomic::remove(&self.path).map_err(|source| self.io(source))
    }

    fn put(&self, secret: &[u8], existing: Existing) -> Result<(), SealedFileError> {
        let sealed = self
            .seal
            .seal(&self.purpose, secret)
            .map_err(|source| self.refused(source))?;
        atomic::write(&self.path, &sealed, MODE, existing).map_err(|source| self.io(source))
    }

    fn io(&self, source: io::Error) -> SealedFileError {
        SealedFileError::Io {
            path: self.path.clone(),
            source,
        }
    }

    fn refused(&self, source: SealError) -> SealedFileError {
        SealedFileError::Seal {
            path: self.path.clone(),
            source,
        }
    }
}

impl fmt::Debug for SealedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedFile")
            .field("path", &self.path)
            .field("purpose", &self.purpose)
            .field("seal", &self.seal.kind())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;
    use crate::KeyFile;

    fn files(dir: &Path) -> (SealedFile, SealedFile) {
        let seal: Arc<dyn Seal> = Arc::new(KeyFile::open_or_create(dir.join("seal.key")).unwrap());
        let file =
            |name: &str| SealedFile::new(dir.join(name), Purpose::new("test/file", name), Arc::clone(&seal));
        (file("a"), file("b"))
    }

    #[test]
    fn a_secret_comes_back_and_is_not_readable_on_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let (file, _) = files(dir.path());
        assert_eq!(file.read().unwrap(), None);
        file.write(b"a very secret key").unwrap();
        file.write(b"another secret key").unwrap();
        assert_eq!(file.read().unwrap().unwrap().as_slice(), b"another secret key");
        let on_disk = fs::read(file.path()).unwrap();
        assert!(!on_disk.windows(6).any(|window| window == b"secret"));
        file.remove().unwrap();
        assert_eq!(file.read().unwrap(), None);
    }

    #[test]
    fn a_file_moved_into_the_place_of_another_does_not_open() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = files(dir.path());
        a.write(b"secret").unwrap();
        fs::rename(a.path(), b.path()).unwrap();
        assert!(matches!(
            b.read(),
            Err(SealedFileError::Seal {
                source: SealError::Closed,
                ..
            })
        ));
    }

    #[test]
    fn a_file_that_others_may_use_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (file, _) = files(dir.path());
        file.write(b"secret").unwrap();
        for mode in [0o640, 0o604, 0o666, 0o700] {
            fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
            assert!(
                matches!(file.read(), Err(SealedFileError::Foreign { .. })),
                "{mode:o}"
            );
        }
    }

    #[test]
    fn creating_never_overwrites() {
        let dir = tempfile::tempdir().unwrap();
        let (file, _) = files(dir.path());
        file.create(b"one").unwrap();
        assert!(matches!(
            file.create(b"two"),
            Err(SealedFileError::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists
        ));
        assert_eq!(file.read().unwrap().unwrap().as_slice(), b"one");
    }
}
