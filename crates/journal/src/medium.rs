//! The few file operations the writer needs, so that tests can make the n-th of them fail.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

pub(crate) struct Medium {
    file: File,
    #[cfg(test)]
    faults: std::sync::Arc<faults::Faults>,
}

pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Makes a folder's entries (a new or renamed file) durable.
pub(crate) fn sync_folder(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

impl Medium {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self::over(OpenOptions::new().read(true).write(true).open(path)?))
    }

    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)?;
        Ok(Self::over(file))
    }

    #[cfg(not(test))]
    fn over(file: File) -> Self {
        Self { file }
    }

    pub(crate) fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        #[cfg(test)]
        self.faults.pass(faults::Call::Write)?;
        self.file.write_all_at(bytes, offset)
    }

    /// Takes space up to `to` by writing zeros: later writes inside it change no metadata, so that their
    /// `fdatasync` is one flush, and they cannot meet a full disk on file systems that write in place.
    pub(crate) fn extend(&self, from: u64, to: u64) -> io::Result<()> {
        #[cfg(test)]
        self.faults.pass(faults::Call::Extend)?;
        let zeros = vec![0; 256 << 10];
        let mut at = from;
        while at < to {
            let step = zeros.len().min(usize::try_from(to - at).unwrap_or(usize::MAX));
            self.file.write_all_at(&zeros[..step], at)?;
            at += step as u64;
        }
        self.file.sync_all()
    }

    pub(crate) fn truncate(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)?;
        self.file.sync_all()
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        #[cfg(test)]
        self.faults.pass(faults::Call::Sync)?;
        self.file.sync_data()
    }

    pub(crate) fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
}

#[cfg(test)]
pub(crate) mod faults {
    use std::cell::RefCell;
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::Medium;

    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    pub(crate) enum Call {
        Write,
        Extend,
        Sync,
    }

    /// Fails one kind of call, from now on or until healed.
    #[derive(Default)]
    pub(crate) struct Faults {
        failing: Mutex<Option<(Call, i32)>>,
    }

    impl Faults {
        pub(crate) fn fail(&self, call: Call, errno: i32) {
            *self.failing.lock().unwrap() = Some((call, errno));
        }

        pub(crate) fn heal(&self) {
            *self.failing.lock().unwrap() = None;
        }

        pub(super) fn pass(&self, call: Call) -> io::Result<()> {
            match *self.failing.lock().unwrap() {
                Some((failing, errno)) if failing == call => Err(io::Error::from_raw_os_error(errno)),
                _ => Ok(()),
            }
        }
    }

    thread_local! {
        static CURRENT: RefCell<Arc<Faults>> = RefCell::default();
    }

    /// The faults of files that this thread opens from now on.
    pub(crate) fn current() -> Arc<Faults> {
        CURRENT.with(|current| current.borrow().clone())
    }

    impl Medium {
        pub(super) fn over(file: std::fs::File) -> Self {
            Self {
                file,
                faults: current(),
            }
        }
    }
}
