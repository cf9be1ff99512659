//! Files that are there whole or not at all.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use aws_lc_rs::rand;
use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, RenameFlags, renameat2},
};

/// What becomes of a file that is already there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Existing {
    /// It is replaced, at once and whole.
    Replace,
    /// It stays, and the write is refused with [`io::ErrorKind::AlreadyExists`].
    Keep,
}

/// Writes `bytes` to `path` so that after a crash at any instant either the old file is there or the new one, both
/// whole: a new file of mode `mode` beside it, fsync, rename, fsync of the folder.
///
/// # Errors
/// The operating system's. The file that was there is untouched then.
pub fn write(path: &Path, bytes: &[u8], mode: u32, existing: Existing) -> io::Result<()> {
    let dir = folder(path)?;
    let new = temporary(path)?;
    let outcome = write_new(&new, bytes, mode).and_then(|()| match existing {
        Existing::Replace => fs::rename(&new, path),
        Existing::Keep => rename_into_nothing(&new, path),
    });
    if outcome.is_err() {
        // Best effort: what failed is already being reported.
        let _ = fs::remove_file(&new);
        return outcome;
    }
    sync_folder(&dir)
}

/// Removes a file durably. A file that is not there is no error.
///
/// # Errors
/// The operating system's.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => sync_folder(&folder(path)?),
    }
}

/// Removes what writes to `path` left behind when the machine stopped in the middle of them.
///
/// # Errors
/// The operating system's.
pub fn remove_leftovers(path: &Path) -> io::Result<()> {
    let prefix = temporary_prefix(path)?;
    for file in fs::read_dir(folder(path)?)? {
        let file = file?;
        if file
            .file_name()
            .to_str()
            .is_some_and(|name| name.starts_with(&prefix))
        {
            fs::remove_file(file.path())?;
        }
    }
    Ok(())
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    // O_EXCL: nothing that somebody put there is written into, and no link is followed.
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    // The umask may have taken bits away; the mode is meant as it was said.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Renames unless the name is taken, in one step: a check before a rename would race.
fn rename_into_nothing(from: &Path, to: &Path) -> io::Result<()> {
    match renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE) {
        // File systems that can't (NFS, old overlays): a link fails when the name is taken, too.
        Err(Errno::EINVAL | Errno::ENOSYS) => fs::hard_link(from, to).and_then(|()| fs::remove_file(from)),
        outcome => outcome.map_err(io::Error::from),
    }
}

fn sync_folder(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn folder(path: &Path) -> io::Result<PathBuf> {
    match path.parent() {
        Some(dir) if dir.as_os_str().is_empty() => Ok(PathBuf::from(".")),
        Some(dir) => Ok(dir.to_owned()),
        None => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the path names no file",
        )),
    }
}

fn temporary(path: &Path) -> io::Result<PathBuf> {
    let mut random = [0; 8];
    rand::fill(&mut random).map_err(|_| io::Error::other("no random bytes"))?;
    let suffix = u64::from_ne_bytes(random);
    Ok(path.with_file_name(format!("{}{suffix:016x}", temporary_prefix(path)?)))
}

fn temporary_prefix(path: &Path) -> io::Result<String> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"))?;
    Ok(format!(".{name}.new-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_with_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        write(&path, b"one", 0o600, Existing::Replace).unwrap();
        write(&path, b"two", 0o640, Existing::Replace).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o640);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_shall_be_kept_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        write(&path, b"one", 0o400, Existing::Keep).unwrap();
        let again = write(&path, b"two", 0o400, Existing::Keep);
        assert_eq!(again.unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn leftovers_of_this_file_go_and_others_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        for name in [".f.new-0123456789abcdef", ".g.new-0123456789abcdef", "f"] {
            fs::write(dir.path().join(name), b"").unwrap();
        }
        remove_leftovers(&path).unwrap();
        assert!(path.exists() && dir.path().join(".g.new-0123456789abcdef").exists());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn removing_twice_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        write(&path, b"one", 0o400, Existing::Keep).unwrap();
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert!(!path.exists());
    }
}
