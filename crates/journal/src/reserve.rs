use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Space kept back, so that a start on a full disk has something to work with.
#[derive(Debug)]
pub struct Reserve {
    path: PathBuf,
    bytes: u64,
}

impl Reserve {
    /// A reserve of `bytes` at `path`; nothing is touched yet.
    pub fn new(path: &Path, bytes: u64) -> Self {
        Self {
            path: path.to_owned(),
            bytes,
        }
    }

    /// Takes the space, if it is not taken already.
    ///
    /// # Errors
    /// When the disk has not got it; nothing is left behind then.
    pub fn ensure(&self) -> io::Result<()> {
        if std::fs::metadata(&self.path).is_ok_and(|found| found.len() == self.bytes) {
            return Ok(());
        }
        self.fill().inspect_err(|_| self.release())
    }

    /// Gives the space back to the file system.
    pub fn release(&self) {
        if let Err(error) = std::fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.path.display(), %error, "the reserve was not released");
        }
    }

    fn fill(&self) -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&self.path)?;
        // Written, not only allocated: compressing or copy-on-write file systems would promise and not keep.
        let block = vec![0x5a; 256 << 10];
        let mut left = self.bytes;
        while left > 0 {
            let step = block.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            file.write_all(&block[..step])?;
            left -= step as u64;
        }
        file.sync_all()
    }
}
