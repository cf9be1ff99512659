//! The process behind a connection, as an attestor may ask about it.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

/// The process whose facts are asked for, and the evidence that was taken of it. Cheap to clone.
///
/// Everything else is read through a descriptor of its `/proc/PID` directory, and every read is followed by the question whether the
/// pinned process still lives: if it does, its number was not given to another process meanwhile (T-01).
#[derive(Clone)]
pub struct Caller {
    process: Arc<dyn Pinned>,
    evidence: Arc<CallerEvidence>,
}

/// A process that can't be confused with a later one of the same number.
pub trait Pinned: Send + Sync {
    /// Its number in our PID namespace.
    fn pid(&self) -> u32;

    /// Its `/proc/PID` directory.
    fn proc_dir(&self) -> BorrowedFd<'_>;

    /// Whether it still lives. What was read below [`Pinned::proc_dir`] before a `true` was read of this process.
    fn is_alive(&self) -> bool;
}

/// What was seen of a caller when its evidence was taken. Facts that can be made from it are made from it, so that they stand and fall
/// with the evidence.
#[derive(Clone, Debug)]
pub struct CallerEvidence {
    /// Whether its namespaces are ours.
    pub standing: Standing,
    /// The file that ran. An executable fact about any other file is void.
    pub executable: Option<FileId>,
    /// Its user ids, as our user namespace sees them.
    pub uids: Ids,
    /// Its group ids, as our user namespace sees them.
    pub gids: Ids,
    /// The text of its `/proc/PID/cgroup`.
    pub cgroups: Arc<[u8]>,
}

/// Real, effective and saved ids of a process.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Ids {
    /// Who started it.
    pub real: u32,
    /// As whom it acts.
    pub effective: u32,
    /// As whom it may act again.
    pub saved: u32,
}

/// Whether the caller's namespaces let us believe what the kernel says of its program.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Standing {
    /// Its user namespace is ours and its PID namespaces up to ours are owned by it. Its user can still have it show any program that he
    /// may read and run; not whose it is.
    Native,
    /// It stands in a user namespace of its own, in which its owner can forge `/proc/PID/exe`. Only facts that an exec can't change are
    /// allowed: the real uid, the cgroup, the container.
    Foreign,
}

/// Device and inode: which file it is, whatever its names.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct FileId {
    /// The device's number.
    pub device: u64,
    /// The inode's number.
    pub inode: u64,
}

/// Why nothing could be read about a caller.
#[derive(Debug, thiserror::Error)]
pub enum CallerError {
    /// The process has ended: whatever was read may be of another one.
    #[error("process {pid} is gone")]
    Gone {
        /// Its number while it lived.
        pid: u32,
    },
    /// The kernel refused or failed.
    #[error("reading {what} of process {pid}")]
    Read {
        /// The process's number.
        pid: u32,
        /// Which file below `/proc/PID`.
        what: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel's answer is longer than anyone needs.
    #[error("{what} of process {pid} is longer than {limit} bytes")]
    TooLong {
        /// The process's number.
        pid: u32,
        /// Which file below `/proc/PID`.
        what: String,
        /// The bound.
        limit: usize,
    },
}

impl Caller {
    /// A pinned process with the evidence that was taken of it.
    pub fn new(process: Arc<dyn Pinned>, evidence: Arc<CallerEvidence>) -> Self {
        Self { process, evidence }
    }

    /// The process's number in our PID namespace.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What was seen of it before anything was asked.
    pub fn evidence(&self) -> &CallerEvidence {
        &self.evidence
    }

    /// [`CallerError::Gone`] unless the pinned process still lives.
    pub fn check_alive(&self) -> Result<(), CallerError> {
        if self.process.is_alive() {
            Ok(())
        } else {
            Err(CallerError::Gone { pid: self.pid() })
        }
    }

    /// Opens a file below its `/proc` directory; the process lived afterwards.
    pub fn open(&self, name: &str, flags: OFlag) -> Result<OwnedFd, CallerError> {
        let opened = openat(
            self.process.proc_dir(),
            name,
            flags | OFlag::O_CLOEXEC,
            Mode::empty(),
        );
        self.check_alive()?;
        opened.map_err(|errno| self.failed(name, errno.into()))
    }

    /// Reads a file below its `/proc` directory, at most `limit` bytes; the process lived afterwards.
    pub fn read(&self, name: &str, limit: usize) -> Result<Vec<u8>, CallerError> {
        let mut bytes = Vec::with_capacity(limit.min(2048));
        let file = File::from(self.open(name, OFlag::O_RDONLY | OFlag::O_NOFOLLOW)?);
        let bound = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
        let read = file.take(bound).read_to_end(&mut bytes);
        self.check_alive()?;
        read.map_err(|source| self.failed(name, source))?;
        if bytes.len() > limit {
            return Err(CallerError::TooLong {
                pid: self.pid(),
                what: name.to_owned(),
                limit,
            });
        }
        Ok(bytes)
    }

    /// Where a link below its `/proc` directory points to, as the kernel words it; the process lived afterwards.
    pub fn read_link(&self, name: &str) -> Result<std::ffi::OsString, CallerError> {
        let target = nix::fcntl::readlinkat(self.process.proc_dir(), name);
        self.check_alive()?;
        target.map_err(|errno| self.failed(name, errno.into()))
    }

    fn failed(&self, what: &str, source: io::Error) -> CallerError {
        CallerError::Read {
            pid: self.pid(),
            what: what.to_owned(),
            source,
        }
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller")
            .field("pid", &self.pid())
            .field("evidence", &self.evidence)
            .finish_non_exhaustive()
    }
}

impl Ids {
    /// The same id in all three places.
    pub fn same(id: u32) -> Self {
        Self {
            real: id,
            effective: id,
            saved: id,
        }
    }

    /// The one id, if all three agree: a set-id program is led by whoever started it, whatever it may act as (T-14).
    pub fn agreed(self) -> Option<u32> {
        (self.real == self.effective && self.real == self.saved).then_some(self.real)
    }

    /// Whether one of the three is `id`.
    pub fn contains(self, id: u32) -> bool {
        [self.real, self.effective, self.saved].contains(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::FakeCaller;

    #[test]
    fn what_was_read_of_a_process_that_ended_meanwhile_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("status"), "Groups:\t1 2\n").unwrap();
        let fake = FakeCaller::new(folder.path()).build().unwrap();
        assert_eq!(fake.caller().read("status", 100).unwrap(), b"Groups:\t1 2\n");
        assert!(matches!(
            fake.caller().read("status", 5),
            Err(CallerError::TooLong { limit: 5, .. })
        ));
        assert!(matches!(
            fake.caller().read("other", 5),
            Err(CallerError::Read { .. })
        ));
        fake.end();
        assert!(matches!(
            fake.caller().read("status", 100),
            Err(CallerError::Gone { .. })
        ));
        assert!(matches!(
            fake.caller().read_link("exe"),
            Err(CallerError::Gone { .. })
        ));
    }

    #[test]
    fn ids_agree_only_when_all_three_are_the_same() {
        assert_eq!(Ids::same(7).agreed(), Some(7));
        assert_eq!(
            Ids {
                effective: 0,
                ..Ids::same(7)
            }
            .agreed(),
            None
        );
        assert_eq!(
            Ids {
                saved: 0,
                ..Ids::same(7)
            }
            .agreed(),
            None
        );
    }
}
