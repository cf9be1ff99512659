use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};

use crate::OpenError;

/// Exclusive use of a folder, until dropped or until the process ends, however it ends.
#[derive(Debug)]
pub struct FolderLock {
    _lock: Flock<File>,
}

impl FolderLock {
    /// Makes the folder (0700) if there is none and takes it.
    ///
    /// # Errors
    /// [`OpenError::Locked`] when somebody has it, this process included.
    pub fn take(dir: &Path) -> Result<Self, OpenError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(OpenError::io(dir))?;
        let path = dir.join("lock");
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(OpenError::io(&path))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Self { _lock: lock }),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => Err(OpenError::Locked(dir.to_owned())),
            Err((_, errno)) => Err(OpenError::Io {
                path,
                source: errno.into(),
            }),
        }
    }
}
