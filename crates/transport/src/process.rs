//! The process at the other end of a connection, pinned so that no other can be taken for it.

use std::{
    fmt, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use tokio::io::unix::AsyncFd;

use crate::kernel::{Credentials, Kernel, ProcFile, watch};

/// A process that connected. Clones are handles to the same one.
///
/// Its pid is a mere number that is reused after it ended. What was read through [`proc_dir`](Self::proc_dir) is
/// known to be of this process only if it [`alive`](Self::alive) afterwards: ask that last.
#[derive(Clone)]
pub struct Process(Arc<Pinned>);

struct Pinned {
    credentials: Credentials,
    pidfd: AsyncFd<OwnedFd>,
    proc_dir: OwnedFd,
    /// `/proc/PID/cgroup`, once it has been compared.
    cgroups: OnceLock<OwnedFd>,
    kernel: Arc<dyn Kernel>,
}

/// Why a process that connected could not be pinned; the connection is closed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PinError {
    #[error("the caller stands outside our PID namespace")]
    OutsidePidNamespace,
    #[error("process {0} ended before it was accepted")]
    Ended(i32),
    #[error("{action} of process {pid}")]
    Kernel {
        pid: i32,
        action: &'static str,
        source: io::Error,
    },
    #[error("reading who connected")]
    Credentials(#[source] io::Error),
}

impl Process {
    /// Pins the process that connected `socket`. Must run inside a tokio runtime, which then watches for its end.
    pub(crate) fn pin(kernel: &Arc<dyn Kernel>, socket: BorrowedFd<'_>) -> Result<Self, PinError> {
        let credentials = kernel.peer_credentials(socket).map_err(PinError::Credentials)?;
        let pid = credentials.pid;
        if pid <= 0 {
            return Err(PinError::OutsidePidNamespace);
        }
        let ended = |action| {
            move |source: io::Error| match source.raw_os_error() {
                Some(libc::ESRCH | libc::ENOENT) => PinError::Ended(pid),
                _ => PinError::Kernel { pid, action, source },
            }
        };
        let pidfd = match kernel.peer_pidfd(socket) {
            // Before Linux 6.5: whoever has the number now. If the caller ended meanwhile, the one pinned instead of it
            // is not on the connection, and so can't answer the PING.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => kernel.open_pidfd(pid),
            other => other,
        }
        .map_err(ended("opening a pidfd"))?;
        let proc_dir = kernel
            .open_proc(pid)
            .map_err(ended("opening the /proc directory"))?;
        if !kernel.alive(pidfd.as_fd()) {
            return Err(PinError::Ended(pid));
        }
        let pidfd = watch(pidfd).map_err(ended("watching the pidfd"))?;
        Ok(Self(Arc::new(Pinned {
            credentials,
            pidfd,
            proc_dir,
            cgroups: OnceLock::new(),
            kernel: Arc::clone(kernel),
        })))
    }

    /// Its number in our PID namespace.
    pub fn pid(&self) -> i32 {
        self.0.credentials.pid
    }

    /// Its effective uid when it connected, as our user namespace numbers it.
    pub fn uid(&self) -> u32 {
        self.0.credentials.uid
    }

    /// Its effective gid when it connected, as our user namespace numbers it.
    pub fn gid(&self) -> u32 {
        self.0.credentials.gid
    }

    /// The descriptor that stands for the process.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.0.pidfd.get_ref().as_fd()
    }

    /// `/proc/PID`, to open files below it.
    pub fn proc_dir(&self) -> BorrowedFd<'_> {
        self.0.proc_dir.as_fd()
    }

    /// Whether it has not exited.
    pub fn alive(&self) -> bool {
        self.0.kernel.alive(self.pidfd())
    }

    /// Whether `/proc/PID/cgroup` reads as `text` now. It is kept open: where a kernel has several hierarchies it is compared before each thing
    /// that is sent, and opening it costs more than reading it.
    pub(crate) fn cgroups_read_as(&self, text: &[u8]) -> io::Result<bool> {
        let open = match self.0.cgroups.get() {
            Some(open) => open,
            None => {
                let opened = self.kernel().open_text(self.proc_dir(), ProcFile::Cgroup)?;
                self.0.cgroups.get_or_init(|| opened)
            }
        };
        self.kernel().reads_as(open.as_fd(), text)
    }

    /// Completes when it has exited.
    pub async fn ended(&self) {
        // An error means that the runtime is going away: there is nobody left to tell.
        let _ = self.0.pidfd.readable().await;
    }

    pub(crate) fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.pidfd.poll_read_ready(cx).map(|_| ())
    }

    pub(crate) fn kernel(&self) -> &dyn Kernel {
        &*self.0.kernel
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process")
            .field("credentials", &self.0.credentials)
            .finish_non_exhaustive()
    }
}
