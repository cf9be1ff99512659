//! What we ask of the kernel about a peer, behind a trait so that tests can play a kernel that is old, racing or lying.

mod linux;

#[cfg(test)]
pub(crate) mod fake;

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

pub(crate) use linux::{Linux, inherited, receive, watch};

/// A file as the kernel knows it: names and mounts can't change it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct FileId {
    /// The device number of the file system.
    pub dev: u64,
    /// The inode on that device.
    pub ino: u64,
}

/// A namespace as the kernel numbers it. All namespaces live on one file system of the kernel's, so the inode alone tells them apart; it is
/// given to another one as soon as the namespace has ended.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct NamespaceId(pub u64);

/// Which of the newer facilities this kernel offers. None is required; what lacks is said in health and log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct KernelSupport {
    /// `SO_PEERPIDFD` (Linux 6.5): the pidfd of the very process that connected.
    pub peer_pidfd: bool,
    /// `PIDFD_GET_INFO` (Linux 6.13): ids and cgroup of a process in one call.
    pub pidfd_info: bool,
}

impl KernelSupport {
    /// Tries both facilities on ourselves.
    pub(crate) fn probe(kernel: &dyn Kernel) -> io::Result<Self> {
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair()?;
        let peer_pidfd = kernel.peer_pidfd(ours.as_fd()).is_ok();
        let pid = i32::try_from(std::process::id()).map_err(io::Error::other)?;
        let pidfd_info = match kernel.pidfd_info(kernel.open_pidfd(pid)?.as_fd()) {
            Ok(_) => true,
            Err(error) if error.kind() == io::ErrorKind::Unsupported => false,
            Err(error) => return Err(error),
        };
        Ok(Self {
            peer_pidfd,
            pidfd_info,
        })
    }

    /// What is weaker on this kernel than it should be, in words for health and log.
    pub fn degraded(&self) -> Option<&'static str> {
        match (self.peer_pidfd, self.pidfd_info) {
            (true, true) => None,
            (true, false) => Some("no PIDFD_GET_INFO (Linux 6.13): each check of a caller costs more"),
            (false, _) => Some(
                "no SO_PEERPIDFD (Linux 6.5): a caller is pinned by pid and start time, and a process that took over \
                 the pid of one that connected and ended is told apart only by its silence",
            ),
        }
    }
}

/// Who connected, as `SO_PEERCRED` has it: fixed at `connect`, in our namespaces' numbers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Credentials {
    pub(crate) pid: i32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// What `PIDFD_GET_INFO` answers, as far as we use it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct PidfdInfo {
    pub(crate) uids: [u32; 3],
    pub(crate) gids: [u32; 3],
    pub(crate) cgroup: Option<u64>,
}

/// Which namespace of a process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Namespace {
    User,
    Pid,
}

/// The kernel's word on processes. A facility that is not there answers [`io::ErrorKind::Unsupported`].
pub(crate) trait Kernel: Send + Sync {
    /// `SO_PEERCRED` of a connected socket.
    fn peer_credentials(&self, socket: BorrowedFd<'_>) -> io::Result<Credentials>;
    /// `SO_PEERPIDFD` of a connected socket.
    fn peer_pidfd(&self, socket: BorrowedFd<'_>) -> io::Result<OwnedFd>;
    /// `pidfd_open`: of whoever has this number now.
    fn open_pidfd(&self, pid: i32) -> io::Result<OwnedFd>;
    /// `PIDFD_GET_INFO`.
    fn pidfd_info(&self, pidfd: BorrowedFd<'_>) -> io::Result<PidfdInfo>;
    /// Whether the process behind a pidfd has not exited. As long as it says yes, its number belongs to it.
    fn alive(&self, pidfd: BorrowedFd<'_>) -> bool;
    /// A descriptor of `/proc/PID`: of whoever has this number now; afterwards it never becomes another process.
    fn open_proc(&self, pid: i32) -> io::Result<OwnedFd>;
    /// The file that the process executes.
    fn executable(&self, proc_dir: BorrowedFd<'_>) -> io::Result<FileId>;
    /// The identity of a namespace of the process.
    fn namespace(&self, proc_dir: BorrowedFd<'_>, which: Namespace) -> io::Result<NamespaceId>;
    /// A descriptor of a namespace of the process, which keeps that namespace from ending.
    fn open_namespace(&self, proc_dir: BorrowedFd<'_>, which: Namespace) -> io::Result<OwnedFd>;
    /// The identity of an open namespace.
    fn namespace_id(&self, namespace: BorrowedFd<'_>) -> io::Result<NamespaceId>;
    /// The user namespace that owns an open namespace (`NS_GET_USERNS`).
    fn namespace_owner(&self, namespace: BorrowedFd<'_>) -> io::Result<OwnedFd>;
    /// The PID namespace above an open one (`NS_GET_PARENT`).
    fn namespace_parent(&self, namespace: BorrowedFd<'_>) -> io::Result<OwnedFd>;
    /// A small text file below `/proc/PID`, refused beyond `limit` bytes.
    fn read(&self, proc_dir: BorrowedFd<'_>, leaf: ProcFile, limit: usize) -> io::Result<Vec<u8>>;
    /// The same file, to be [compared](Self::reads_as) many times.
    fn open_text(&self, proc_dir: BorrowedFd<'_>, leaf: ProcFile) -> io::Result<OwnedFd>;
    /// Whether an open text file reads as `expected` now, from its beginning to its end.
    fn reads_as(&self, text: BorrowedFd<'_>, expected: &[u8]) -> io::Result<bool>;
}

/// The text files of `/proc/PID` that evidence is read from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ProcFile {
    Stat,
    Status,
    Cgroup,
}
