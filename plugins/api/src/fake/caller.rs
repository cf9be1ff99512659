//! A caller made of files.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use crate::caller::{Caller, CallerEvidence, FileId, Ids, Pinned, Standing};

/// A process that is a folder: what a test writes there as `status` or `exe` is what attestors read. With `/proc/PID` as the folder it is
/// a real process.
#[derive(Debug)]
pub struct FakeCaller {
    caller: Caller,
    process: Arc<FakeProcess>,
}

/// What a [`FakeCaller`] is made from.
#[derive(Clone, Debug)]
pub struct FakeCallerBuilder {
    folder: PathBuf,
    pid: u32,
    evidence: CallerEvidence,
}

#[derive(Debug)]
struct FakeProcess {
    pid: u32,
    proc_dir: OwnedFd,
    alive: AtomicBool,
}

impl FakeCaller {
    /// A native process of uid and gid 1000 without any cgroup, whose `/proc` directory is `folder`.
    #[expect(
        clippy::new_ret_no_self,
        reason = "a test reads FakeCaller::new(folder).uid(0).build()"
    )]
    pub fn new(folder: &Path) -> FakeCallerBuilder {
        FakeCallerBuilder {
            folder: folder.to_owned(),
            pid: 4711,
            evidence: CallerEvidence {
                standing: Standing::Native,
                executable: None,
                uids: Ids::same(1000),
                gids: Ids::same(1000),
                cgroups: Arc::from(&b"0::/\n"[..]),
            },
        }
    }

    /// What an attestor is given.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Ends the process.
    pub fn end(&self) {
        self.process.alive.store(false, Ordering::Release);
    }
}

impl FakeCallerBuilder {
    /// Another process number.
    #[must_use]
    pub fn pid(mut self, pid: u32) -> Self {
        self.pid = pid;
        self
    }

    /// Other user ids.
    #[must_use]
    pub fn uids(mut self, uids: Ids) -> Self {
        self.evidence.uids = uids;
        self
    }

    /// Other group ids.
    #[must_use]
    pub fn gids(mut self, gids: Ids) -> Self {
        self.evidence.gids = gids;
        self
    }

    /// Its namespaces are its own.
    #[must_use]
    pub fn foreign(mut self) -> Self {
        self.evidence.standing = Standing::Foreign;
        self
    }

    /// The file that ran when the evidence was taken.
    #[must_use]
    pub fn executable(mut self, file: FileId) -> Self {
        self.evidence.executable = Some(file);
        self
    }

    /// The text of its `/proc/PID/cgroup`.
    #[must_use]
    pub fn cgroups(mut self, text: &str) -> Self {
        self.evidence.cgroups = Arc::from(text.as_bytes());
        self
    }

    /// The process.
    pub fn build(self) -> io::Result<FakeCaller> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let proc_dir = open(&self.folder, flags, Mode::empty())?;
        let process = Arc::new(FakeProcess {
            pid: self.pid,
            proc_dir,
            alive: AtomicBool::new(true),
        });
        let pinned: Arc<dyn Pinned> = Arc::<FakeProcess>::clone(&process);
        Ok(FakeCaller {
            caller: Caller::new(pinned, Arc::new(self.evidence)),
            process,
        })
    }
}

impl Pinned for FakeProcess {
    fn pid(&self) -> u32 {
        self.pid
    }

    fn proc_dir(&self) -> BorrowedFd<'_> {
        self.proc_dir.as_fd()
    }

    fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Acquire)
    }
}
