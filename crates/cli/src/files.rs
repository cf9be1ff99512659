//! Files that a command writes for people and programs.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use crate::failure::Failure;

/// Who may read a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Readers {
    /// Its owner: it is a private key.
    Owner,
    /// Everybody.
    All,
}

/// A folder in which a command leaves its results.
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// Takes a folder, and makes it if it isn't there.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(path)
            .map_err(|error| {
                Failure::usage(format!("could not make the folder {}", path.display()), error)
            })?;
        Ok(Self(path.to_owned()))
    }

    /// Writes a file, whole or not at all: a program that reads the folder while we write never finds half a
    /// key, nor a key that everybody may read for a moment. The name is ours, never a peer's.
    pub(crate) fn write(&self, name: &str, content: &[u8], readers: Readers) -> Result<PathBuf, Failure> {
        let path = self.0.join(name);
        let beside = self.0.join(format!(".{name}.{}", std::process::id()));
        self.replace(&path, &beside, content, readers).map_err(|error| {
            // What is left of it, if anything, is of no use to anybody.
            let _ = fs::remove_file(&beside);
            Failure::usage(format!("could not write {}", path.display()), error)
        })?;
        Ok(path)
    }

    /// Takes files away that this command wrote `before` and did not write again: nobody is to use what was taken back. Answers with those that were there.
    pub(crate) fn forget(&self, before: &[PathBuf], again: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
        let mut gone = Vec::new();
        for path in before.iter().filter(|path| !again.contains(path)) {
            match fs::remove_file(path) {
                Ok(()) => gone.push(path.clone()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(Failure::usage(
                        format!("could not remove {}", path.display()),
                        error,
                    ));
                }
            }
        }
        Ok(gone)
    }

    fn replace(&self, path: &Path, beside: &Path, content: &[u8], readers: Readers) -> io::Result<()> {
        let mode = match readers {
            Readers::Owner => 0o600,
            Readers::All => 0o644,
        };
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(beside)?;
        // The umask may have taken bits away that a reader needs; a key has none to lose.
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(content)?;
        fs::rename(beside, path)
    }
}

/// Reads a file that was named on the command line; `-` is standard input.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    /// More than any bundle, chain or token has.
    const MOST: u64 = 8 << 20;
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let source: Box<dyn io::Read> = if path == Path::new("-") {
            Box::new(io::stdin())
        } else {
            Box::new(fs::File::open(path)?)
        };
        io::Read::read_to_end(&mut io::Read::take(source, MOST + 1), &mut bytes)?;
        if bytes.len() as u64 > MOST {
            return Err(io::Error::other("it has more than 8 MiB"));
        }
        Ok(bytes)
    };
    read().map_err(|error| Failure::usage(format!("could not read {}", path.display()), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_for_their_owner_alone_and_files_are_replaced_whole() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::open(&temporary.path().join("a/b")).unwrap();
        folder.write("svid.0.key", b"old", Readers::Owner).unwrap();
        let path = folder.write("svid.0.key", b"new", Readers::Owner).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_not_written_again_goes_and_strangers_files_stay() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::open(temporary.path()).unwrap();
        fs::write(temporary.path().join("svid.9.key"), "a stranger's").unwrap();
        let write = |name: &str| folder.write(name, b"1", Readers::Owner).unwrap();
        let before = ["svid.0.key", "svid.1.key", "svid.2.key"].map(write);
        fs::remove_file(&before[2]).unwrap();
        let gone = folder.forget(&before, &before[..1]).unwrap();
        assert_eq!(gone, before[1..2]);
        assert!(before[0].exists() && temporary.path().join("svid.9.key").exists());
        assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 2);
    }
}
