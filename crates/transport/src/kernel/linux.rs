//! The real kernel. The only module of this crate with `unsafe`: the calls that nix does not have.

#![expect(
    unsafe_code,
    reason = "recvmsg with exact control space, pidfd_open and namespace ioctls have no safe wrapper"
)]

use std::{
    ffi::CStr,
    fs::File,
    io::{self, Read},
    mem,
    ops::Range,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    sync::atomic::{AtomicBool, Ordering},
};

use nix::{
    fcntl::{OFlag, openat, readlinkat},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        socket::{getsockopt, sockopt},
        stat::{Mode, fstat},
        uio::pread,
    },
};

use tokio::io::{Interest, unix::AsyncFd};

use super::{Credentials, FileId, Kernel, Namespace, NamespaceId, PidfdInfo, ProcFile};
use crate::passed::PassedError;

/// The kernel we run on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Linux;

impl Kernel for Linux {
    fn peer_credentials(&self, socket: BorrowedFd<'_>) -> io::Result<Credentials> {
        let peer = getsockopt(&socket, sockopt::PeerCredentials)?;
        Ok(Credentials {
            pid: peer.pid(),
            uid: peer.uid(),
            gid: peer.gid(),
        })
    }

    fn peer_pidfd(&self, socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
        match getsockopt(&socket, sockopt::PeerPidfd) {
            Ok(pidfd) => Ok(pidfd),
            Err(nix::Error::ENOPROTOOPT) => Err(io::ErrorKind::Unsupported.into()),
            Err(error) => Err(error.into()),
        }
    }

    fn open_pidfd(&self, pid: i32) -> io::Result<OwnedFd> {
        // SAFETY: pidfd_open takes two integers and touches no memory of ours.
        owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })
    }

    fn pidfd_info(&self, pidfd: BorrowedFd<'_>) -> io::Result<PidfdInfo> {
        // SAFETY: pidfd_info is plain integers, for which all zeroes is a value.
        let mut info: libc::pidfd_info = unsafe { mem::zeroed() };
        info.mask = u64::from(libc::PIDFD_INFO_CREDS | libc::PIDFD_INFO_CGROUPID);
        // SAFETY: the request's number carries the struct's size, so the kernel writes no further than `info`.
        let answer = unsafe { libc::ioctl(pidfd.as_raw_fd(), libc::PIDFD_GET_INFO, &raw mut info) };
        if answer < 0 {
            let error = io::Error::last_os_error();
            return Err(match error.raw_os_error() {
                Some(libc::ENOTTY | libc::EINVAL) => io::ErrorKind::Unsupported.into(),
                _ => error,
            });
        }
        if info.mask & u64::from(libc::PIDFD_INFO_CREDS) == 0 {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        let has_cgroup = info.mask & u64::from(libc::PIDFD_INFO_CGROUPID) != 0;
        Ok(PidfdInfo {
            uids: [info.ruid, info.euid, info.suid],
            gids: [info.rgid, info.egid, info.sgid],
            cgroup: has_cgroup.then_some(info.cgroupid),
        })
    }

    fn alive(&self, pidfd: BorrowedFd<'_>) -> bool {
        // A pidfd becomes readable when its process exits, before its number can be reused.
        let mut fds = [PollFd::new(pidfd, PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO) == Ok(0)
    }

    fn open_proc(&self, pid: i32) -> io::Result<OwnedFd> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        Ok(nix::fcntl::open(
            format!("/proc/{pid}").as_str(),
            flags,
            Mode::empty(),
        )?)
    }

    fn executable(&self, proc_dir: BorrowedFd<'_>) -> io::Result<FileId> {
        // An executable may lie on FUSE, whose daemon the caller runs: `stat` would ask it, and wait as long as it
        // likes. Device and inode are known without.
        // SAFETY: statx is plain integers, for which all zeroes is a value.
        let mut found: libc::statx = unsafe { mem::zeroed() };
        // SAFETY: the path is a C string, and the kernel fills the `found` it is given.
        let answer = unsafe {
            libc::statx(
                proc_dir.as_raw_fd(),
                c"exe".as_ptr(),
                libc::AT_STATX_DONT_SYNC,
                libc::STATX_INO,
                &raw mut found,
            )
        };
        if answer < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(FileId {
            dev: libc::makedev(found.stx_dev_major, found.stx_dev_minor),
            ino: found.stx_ino,
        })
    }

    fn namespace(&self, proc_dir: BorrowedFd<'_>, which: Namespace) -> io::Result<NamespaceId> {
        // The link's text, `user:[4026531837]`, has the number. To follow the link would make an inode each time, which costs twice as much.
        let text = readlinkat(proc_dir, link(which))?;
        namespace_in(text.as_bytes()).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn open_namespace(&self, proc_dir: BorrowedFd<'_>, which: Namespace) -> io::Result<OwnedFd> {
        Ok(openat(
            proc_dir,
            link(which),
            OFlag::O_RDONLY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )?)
    }

    fn namespace_id(&self, namespace: BorrowedFd<'_>) -> io::Result<NamespaceId> {
        Ok(NamespaceId(fstat(namespace)?.st_ino))
    }

    fn namespace_owner(&self, namespace: BorrowedFd<'_>) -> io::Result<OwnedFd> {
        // SAFETY: the request takes no argument and answers a new descriptor.
        owned(unsafe { libc::ioctl(namespace.as_raw_fd(), libc::NS_GET_USERNS) }.into())
    }

    fn namespace_parent(&self, namespace: BorrowedFd<'_>) -> io::Result<OwnedFd> {
        // SAFETY: the request takes no argument and answers a new descriptor.
        owned(unsafe { libc::ioctl(namespace.as_raw_fd(), libc::NS_GET_PARENT) }.into())
    }

    fn read(&self, proc_dir: BorrowedFd<'_>, leaf: ProcFile, limit: usize) -> io::Result<Vec<u8>> {
        let mut file = File::from(self.open_text(proc_dir, leaf)?);
        // One read gets nearly every such file whole; a second one says that it was the end.
        let mut text = vec![0; 1024.min(limit + 1)];
        let mut length = 0;
        loop {
            if length == text.len() {
                if length > limit {
                    return Err(io::Error::new(
                        io::ErrorKind::FileTooLarge,
                        "file below /proc is too large",
                    ));
                }
                text.resize((length * 2).min(limit + 1), 0);
            }
            match file.read(&mut text[length..]) {
                Ok(0) => break,
                Ok(count) => length += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        text.truncate(length);
        Ok(text)
    }

    fn open_text(&self, proc_dir: BorrowedFd<'_>, leaf: ProcFile) -> io::Result<OwnedFd> {
        let leaf = match leaf {
            ProcFile::Stat => c"stat",
            ProcFile::Status => c"status",
            ProcFile::Cgroup => c"cgroup",
        };
        Ok(openat(
            proc_dir,
            leaf,
            OFlag::O_RDONLY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )?)
    }

    fn reads_as(&self, text: BorrowedFd<'_>, expected: &[u8]) -> io::Result<bool> {
        // The kernel writes such a file anew at each read from its beginning, and gives it whole in one where there is room. Room for one
        // byte more than is expected shows a longer one.
        let mut read = vec![0; expected.len() + 1];
        loop {
            match pread(text, &mut read, 0) {
                Ok(length) => return Ok(read[..length] == *expected),
                Err(nix::Error::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// What one `recvmsg` brought: bytes of exactly one sender, since the kernel glues no segments of two.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Received {
    pub(crate) length: usize,
    /// The sender's pid in our PID namespace; `None` at the end of the stream or when the kernel names none.
    pub(crate) sender: Option<i32>,
    /// Something came beside the bytes that had no room: passed descriptors. None was installed.
    pub(crate) extra: bool,
}

/// Receives bytes and their sender. The control buffer holds one `SCM_CREDENTIALS` exactly: descriptors that a peer
/// passes find no room, so the kernel drops them and says so (`MSG_CTRUNC`), and nobody can fill our table of files.
pub(crate) fn receive(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> io::Result<Received> {
    // SAFETY: computes a size from an integer.
    const SPACE: usize = unsafe { libc::CMSG_SPACE(mem::size_of::<libc::ucred>() as u32) } as usize;
    #[repr(C, align(8))]
    struct Control([u8; SPACE]);

    let mut control = Control([0; SPACE]);
    let mut part = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: msghdr is pointers and integers, for which all zeroes is a value.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = SPACE as _;
    // SAFETY: `message` points at `part` (which spans `bytes`) and `control`, both alive and of the lengths given.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) };
    if length < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut sender = None;
    // SAFETY: the kernel filled `message`; CMSG_FIRSTHDR stays within msg_controllen or answers null.
    let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    if !header.is_null() {
        // SAFETY: not null, so it points at a whole cmsghdr inside `control`, which is aligned for it.
        let described = unsafe { *header };
        // SAFETY: computes a size from an integer.
        let whole = unsafe { libc::CMSG_LEN(mem::size_of::<libc::ucred>() as u32) } as usize;
        if described.cmsg_level == libc::SOL_SOCKET
            && described.cmsg_type == libc::SCM_CREDENTIALS
            && described.cmsg_len as usize >= whole
        {
            // SAFETY: cmsg_len says that a whole ucred follows; read_unaligned asks no alignment of it.
            let peer: libc::ucred = unsafe { libc::CMSG_DATA(header).cast::<libc::ucred>().read_unaligned() };
            sender = (peer.pid > 0).then_some(peer.pid);
        }
    }
    Ok(Received {
        length: length.unsigned_abs(),
        sender,
        extra: message.msg_flags & libc::MSG_CTRUNC != 0,
    })
}

/// Watches a pidfd: it becomes readable when its process exits. Must run inside a tokio runtime.
pub(crate) fn watch(pidfd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is open as long as it lives, stays the same descriptor, and is never replaced inside AsyncFd.
    unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }
        .map_err(|error| error.into_parts().1)
}

/// Takes descriptors that were open when this process began. Once: nobody else may come to own them.
pub(crate) fn inherited(which: Range<i32>) -> Result<Vec<OwnedFd>, PassedError> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if which.is_empty() {
        return Ok(Vec::new());
    }
    if TAKEN.swap(true, Ordering::AcqRel) {
        return Err(PassedError::Taken);
    }
    for fd in which.clone() {
        // SAFETY: F_SETFD takes integers and touches no memory of ours; it fails if the descriptor is not open.
        if unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
            return Err(PassedError::NotOpen(fd));
        }
    }
    // SAFETY: all are open, as the loop saw, and announced as passed to this very process (LISTEN_PID); `TAKEN` lets
    // nobody have them a second time.
    Ok(which.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect())
}

fn link(which: Namespace) -> &'static CStr {
    match which {
        Namespace::User => c"ns/user",
        Namespace::Pid => c"ns/pid",
    }
}

/// The number in the text of a namespace's link, such as `user:[4026531837]`.
fn namespace_in(text: &[u8]) -> Option<NamespaceId> {
    let number = text.strip_suffix(b"]")?.rsplit(|&byte| byte == b'[').next()?;
    std::str::from_utf8(number).ok()?.parse().ok().map(NamespaceId)
}

fn owned(answer: libc::c_long) -> io::Result<OwnedFd> {
    match i32::try_from(answer) {
        // SAFETY: the kernel just made this descriptor for us; nobody else has it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    fn ourselves() -> OwnedFd {
        Linux
            .open_proc(i32::try_from(std::process::id()).unwrap())
            .unwrap()
    }

    #[test]
    fn a_namespace_has_one_number_whether_it_is_read_or_opened() {
        let dir = ourselves();
        for which in [Namespace::User, Namespace::Pid] {
            let opened = Linux.open_namespace(dir.as_fd(), which).unwrap();
            assert_eq!(
                Linux.namespace(dir.as_fd(), which).unwrap(),
                Linux.namespace_id(opened.as_fd()).unwrap()
            );
        }
        for odd in [
            &b""[..],
            b"]",
            b"user:",
            b"user:[]",
            b"user:[1",
            b"user:[-1]",
            b"user:[x]",
        ] {
            assert_eq!(namespace_in(odd), None, "{odd:?}");
        }
    }

    #[test]
    fn an_open_text_is_told_from_a_longer_a_shorter_and_another_one() {
        let dir = ourselves();
        let text = Linux.read(dir.as_fd(), ProcFile::Cgroup, 1 << 16).unwrap();
        let open = Linux.open_text(dir.as_fd(), ProcFile::Cgroup).unwrap();
        let reads_as = |expected: &[u8]| Linux.reads_as(open.as_fd(), expected).unwrap();
        let other: Vec<u8> = text.iter().map(|byte| byte ^ 1).collect();
        assert!(reads_as(&text) && reads_as(&text), "as often as one likes");
        assert!(
            !reads_as(&text[..text.len() - 1])
                && !reads_as(&[&text[..], b"0::/\n"].concat())
                && !reads_as(&other)
        );
    }
}
