//! A kernel that says what a test wants. Descriptors of it are real ones of files in a scratch directory, so that they
//! can be told apart; what they stand for is looked up by inode.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
    sync::Mutex,
};

use nix::sys::socket::{AddressFamily, SockFlag, SockType};

use super::{Credentials, FileId, Kernel, Namespace, NamespaceId, PidfdInfo, ProcFile};

/// What one process looks like.
#[derive(Clone, Debug)]
pub(crate) struct FakeProcess {
    pub(crate) executable: FileId,
    pub(crate) user_ns: String,
    pub(crate) pid_ns: String,
    pub(crate) ids: [u32; 3],
    pub(crate) groups: String,
    pub(crate) cgroup_id: u64,
    pub(crate) cgroup: String,
    pub(crate) start_time: u64,
    /// Namespaces and executable may not be looked at.
    pub(crate) hidden: bool,
}

impl Default for FakeProcess {
    fn default() -> Self {
        Self {
            executable: FileId { dev: 1, ino: 42 },
            user_ns: "user:ours".into(),
            pid_ns: "pid:ours".into(),
            ids: [1000; 3],
            groups: "4 24 ".into(),
            cgroup_id: 7,
            cgroup: "0::/work.slice\n".into(),
            start_time: 12_345,
            hidden: false,
        }
    }
}

pub(crate) struct FakeKernel {
    scratch: tempfile::TempDir,
    state: Mutex<FakeState>,
}

pub(crate) struct FakeState {
    /// The process that every peer is.
    pub(crate) peer: FakeProcess,
    pub(crate) credentials: Credentials,
    pub(crate) alive: bool,
    pub(crate) has_peer_pidfd: bool,
    pub(crate) has_pidfd_info: bool,
    /// Each PID namespace: its owner and, if in sight, its parent.
    pub(crate) pid_namespaces: HashMap<String, (String, Option<String>)>,
    /// Calls that are counted, by name.
    pub(crate) calls: HashMap<&'static str, usize>,
    /// Happens to the peer right after its executable was read.
    pub(crate) after_executable: Option<fn(&mut FakeState)>,
    ours: HashSet<NamespaceId>,
}

impl FakeKernel {
    pub(crate) fn new() -> Self {
        Self {
            scratch: tempfile::tempdir().unwrap(),
            state: Mutex::new(FakeState {
                peer: FakeProcess::default(),
                credentials: Credentials {
                    pid: 4242,
                    uid: 1000,
                    gid: 1000,
                },
                alive: true,
                has_peer_pidfd: true,
                has_pidfd_info: true,
                pid_namespaces: HashMap::new(),
                calls: HashMap::new(),
                after_executable: None,
                ours: HashSet::new(),
            }),
        }
    }

    /// Looks at or changes what the kernel says.
    pub(crate) fn with<T>(&self, change: impl FnOnce(&mut FakeState) -> T) -> T {
        change(&mut self.state.lock().unwrap())
    }

    fn called(&self, name: &'static str) {
        self.with(|state| *state.calls.entry(name).or_default() += 1);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn open(&self, name: &str) -> io::Result<OwnedFd> {
        let path = self.path(name);
        if !path.exists() {
            File::create(&path)?;
        }
        Ok(File::open(path)?.into())
    }

    fn name_of(&self, fd: BorrowedFd<'_>) -> String {
        let id = self.namespace_id(fd).unwrap();
        let mut entries = std::fs::read_dir(self.scratch.path()).unwrap().flatten();
        let found = entries.find(|entry| std::os::unix::fs::DirEntryExt::ino(entry) == id.0);
        found.unwrap().file_name().into_string().unwrap()
    }

    /// Ourselves, or the peer.
    fn process(&self, proc_dir: BorrowedFd<'_>) -> io::Result<FakeProcess> {
        let id = self.namespace_id(proc_dir)?;
        Ok(self.with(|state| {
            if state.ours.contains(&id) {
                FakeProcess::default()
            } else {
                state.peer.clone()
            }
        }))
    }

    fn visible(&self, proc_dir: BorrowedFd<'_>) -> io::Result<FakeProcess> {
        let process = self.process(proc_dir)?;
        if process.hidden {
            Err(io::ErrorKind::PermissionDenied.into())
        } else {
            Ok(process)
        }
    }
}

/// Something that epoll takes and that never becomes readable.
fn pidfd() -> OwnedFd {
    nix::sys::socket::socket(
        AddressFamily::Unix,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .unwrap()
}

impl Kernel for FakeKernel {
    fn peer_credentials(&self, _: BorrowedFd<'_>) -> io::Result<Credentials> {
        Ok(self.with(|state| state.credentials))
    }

    fn peer_pidfd(&self, _: BorrowedFd<'_>) -> io::Result<OwnedFd> {
        match self.with(|state| state.has_peer_pidfd) {
            true => Ok(pidfd()),
            false => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn open_pidfd(&self, _: i32) -> io::Result<OwnedFd> {
        self.called("open_pidfd");
        Ok(pidfd())
    }

    fn pidfd_info(&self, _: BorrowedFd<'_>) -> io::Result<PidfdInfo> {
        self.with(|state| match state.has_pidfd_info {
            true => Ok(PidfdInfo {
                uids: state.peer.ids,
                gids: state.peer.ids,
                cgroup: Some(state.peer.cgroup_id),
            }),
            false => Err(io::ErrorKind::Unsupported.into()),
        })
    }

    fn alive(&self, _: BorrowedFd<'_>) -> bool {
        self.with(|state| state.alive)
    }

    fn open_proc(&self, pid: i32) -> io::Result<OwnedFd> {
        let directory = self.open(&format!("proc:{pid}"))?;
        if u32::try_from(pid) == Ok(std::process::id()) {
            let id = self.namespace_id(directory.as_fd())?;
            self.with(|state| state.ours.insert(id));
        }
        Ok(directory)
    }

    fn executable(&self, proc_dir: BorrowedFd<'_>) -> io::Result<FileId> {
        let executable = self.visible(proc_dir)?.executable;
        self.with(|state| {
            if let Some(change) = state.after_executable {
                change(state);
            }
        });
        Ok(executable)
    }

    fn namespace(&self, proc_dir: BorrowedFd<'_>, which: Namespace) -> io::Result<NamespaceId> {
        self.namespace_id(self.open_namespace(proc_dir, which)?.as_fd())
    }

    fn open_namespace(&self, proc_dir: BorrowedFd<'_>, which: Namespace) -> io::Result<OwnedFd> {
        let process = self.visible(proc_dir)?;
        self.open(match which {
            Namespace::User => &process.user_ns,
            Namespace::Pid => &process.pid_ns,
        })
    }

    fn namespace_id(&self, namespace: BorrowedFd<'_>) -> io::Result<NamespaceId> {
        Ok(NamespaceId(nix::sys::stat::fstat(namespace)?.st_ino))
    }

    fn namespace_owner(&self, namespace: BorrowedFd<'_>) -> io::Result<OwnedFd> {
        self.called("namespace_owner");
        let name = self.name_of(namespace);
        let owner = self.with(|state| state.pid_namespaces[&name].0.clone());
        self.open(&owner)
    }

    fn namespace_parent(&self, namespace: BorrowedFd<'_>) -> io::Result<OwnedFd> {
        let name = self.name_of(namespace);
        match self.with(|state| state.pid_namespaces[&name].1.clone()) {
            Some(parent) => self.open(&parent),
            None => Err(io::Error::from_raw_os_error(libc::EPERM)),
        }
    }

    fn read(&self, proc_dir: BorrowedFd<'_>, leaf: ProcFile, _: usize) -> io::Result<Vec<u8>> {
        let process = self.process(proc_dir)?;
        let [real, effective, saved] = process.ids;
        Ok(match leaf {
            ProcFile::Stat => format!("4242 (a) b (c) S{} {} 0\n", " 1".repeat(18), process.start_time),
            ProcFile::Status => {
                format!(
                    "Name:\ta\nUid:\t{real}\t{effective}\t{saved}\t9\nGid:\t{real}\t{effective}\t{saved}\t9\nGroups:\t{}\n",
                    process.groups
                )
            }
            ProcFile::Cgroup => process.cgroup,
        }
        .into_bytes())
    }

    fn open_text(&self, _: BorrowedFd<'_>, leaf: ProcFile) -> io::Result<OwnedFd> {
        assert_eq!(leaf, ProcFile::Cgroup, "no other text is compared");
        self.called("open_text");
        self.open("cgroup")
    }

    fn reads_as(&self, _: BorrowedFd<'_>, expected: &[u8]) -> io::Result<bool> {
        Ok(self.with(|state| state.peer.cgroup.as_bytes() == expected))
    }
}
