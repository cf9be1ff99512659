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
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_key_file_is_made_once_and_opened_after() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seal.key");
        assert!(matches!(KeyFile::open(&path), Err(KeyFileError::Missing(_))));
        let first = KeyFile::open_or_create(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode, 0o400);
        let purpose = Purpose::new("test/a", "");
        let sealed = first.seal(&purpose, b"secret").unwrap();
        for again in [
            KeyFile::open(&path).unwrap(),
            KeyFile::open_or_create(&path).unwrap(),
        ] {
            assert_eq!(again.unseal(&purpose, &sealed).unwrap().as_slice(), b"secret");
        }
        assert_eq!(format!("{first:?}"), format!("KeyFile {{ path: {path:?}, .. }}"));
    }

    #[test]
    fn a_key_file_that_others_may_use_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seal.key");
        KeyFile::open_or_create(&path).unwrap();
        for mode in [
            0o440, 0o404, 0o444, 0o644, 0o666, 0o420, 0o402, 0o410, 0o500, 0o4400,
        ] {
            set_mode(&path, mode);
            let refused = KeyFile::open_or_create(&path);
            assert!(
                matches!(refused, Err(KeyFileError::Mode { mode: found, .. }) if found == mode),
                "{mode:o}"
            );
        }
        set_mode(&path, 0o600);
        assert!(KeyFile::open(&path).is_ok());
    }

    #[test]
    fn links_folders_and_other_content_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("seal.key");
        KeyFile::open_or_create(&real).unwrap();
        let link = dir.path().join("link.key");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        assert!(matches!(KeyFile::open(&link), Err(KeyFileError::NotAFile(_))));
        assert!(matches!(
            KeyFile::open(dir.path()),
            Err(KeyFileError::NotAFile(_))
        ));
        let content = fs::read(&real).unwrap();
        for (name, bytes) in [
            ("short", &content[..content.len() - 1]),
            ("long", &[&content[..], b"x"].concat()),
            ("empty", b""),
            ("other", &[b'x'; 48]),
        ] {
            let path = dir.path().join(name);
            fs::write(&path, bytes).unwrap();
            set_mode(&path, 0o400);
            assert!(
                matches!(KeyFile::open(&path), Err(KeyFileError::Malformed(_))),
                "{name}"
            );
        }
    }

    #[test]
    fn a_key_file_of_another_user_is_refused() {
        if !geteuid().is_root() {
            return; // only root can give a file away
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seal.key");
        KeyFile::open_or_create(&path).unwrap();
        std::os::unix::fs::chown(&path, Some(4242), None).unwrap();
        assert!(matches!(
            KeyFile::open(&path),
            Err(KeyFileError::Owner { uid: 4242, .. })
        ));
    }

    #[test]
    fn of_many_that_make_the_file_at_once_all_have_one_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seal.key");
        let made: Vec<KeyFile> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| KeyFile::open_or_create(&path).unwrap()))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(made.iter().all(|file| file.key.bytes() == made[0].key.bytes()));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
