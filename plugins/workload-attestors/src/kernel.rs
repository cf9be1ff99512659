//! The one call that no safe wrapper has.
#![expect(
    unsafe_code,
    reason = "statx is needed with AT_STATX_DONT_SYNC, and nix does not wrap it"
)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

use muster_plugin_api::FileId;

/// What the kernel knows of a file without asking its file system's server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct FileState {
    pub(crate) id: FileId,
    pub(crate) links: u32,
    pub(crate) version: Version,
    /// The mount it was reached through; none on kernels before 5.8.
    pub(crate) mount: Option<u64>,
    /// As which user an exec of it has the process act (set-user-id).
    pub(crate) set_uid: Option<u32>,
    /// As which group an exec of it has the process act (set-group-id).
    pub(crate) set_gid: Option<u32>,
}

/// A file and its content, as long as nobody turns the clock back: whoever writes changes the ctime.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Version {
    pub(crate) id: FileId,
    pub(crate) size: u64,
    pub(crate) modified: (i64, u32),
    pub(crate) changed: (i64, u32),
}

/// The state of an open file. A FUSE daemon or a file server that does not answer can't hold this up.
pub(crate) fn file_state(file: BorrowedFd<'_>) -> io::Result<FileState> {
    let mut buffer = MaybeUninit::<libc::statx>::zeroed();
    let flags = libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC | libc::AT_NO_AUTOMOUNT;
    let mask = libc::STATX_BASIC_STATS | libc::STATX_MNT_ID;
    // SAFETY: the descriptor is borrowed and open, the path is a C string, and the kernel writes one statx into the buffer.
    let answer = unsafe { libc::statx(file.as_raw_fd(), c"".as_ptr(), flags, mask, buffer.as_mut_ptr()) };
    if answer != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the buffer was zeroed, which is a valid statx, and the kernel has filled it.
    let seen = unsafe { buffer.assume_init() };
    let id = FileId {
        device: libc::makedev(seen.stx_dev_major, seen.stx_dev_minor),
        inode: seen.stx_ino,
    };
    let version = Version {
        id,
        size: seen.stx_size,
        modified: (seen.stx_mtime.tv_sec, seen.stx_mtime.tv_nsec),
        changed: (seen.stx_ctime.tv_sec, seen.stx_ctime.tv_nsec),
    };
    let mount = (seen.stx_mask & libc::STATX_MNT_ID != 0).then_some(seen.stx_mnt_id);
    let mode = u32::from(seen.stx_mode);
    // What its group may not run is no set-group-id program to the kernel: there the bit means mandatory locks.
    let group_bits = libc::S_ISGID | libc::S_IXGRP;
    Ok(FileState {
        id,
        links: seen.stx_nlink,
        version,
        mount,
        set_uid: (mode & libc::S_ISUID != 0).then_some(seen.stx_uid),
        set_gid: (mode & group_bits == group_bits).then_some(seen.stx_gid),
    })
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::fd::AsFd;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    #[test]
    fn the_state_is_what_stat_says() {
        let file = tempfile::tempfile().unwrap();
        let (state, stat) = (file_state(file.as_fd()).unwrap(), file.metadata().unwrap());
        assert_eq!(
            state.id,
            FileId {
                device: stat.dev(),
                inode: stat.ino()
            }
        );
        assert_eq!((state.links, state.version.size), (0, 0));
        assert_eq!(state.version.changed.0, stat.ctime());
    }

    #[test]
    fn a_set_id_file_says_as_whom_it_runs() {
        let file = tempfile::tempfile().unwrap();
        let (uid, gid) = (file.metadata().unwrap().uid(), file.metadata().unwrap().gid());
        for (mode, expected) in [
            (0o755, (None, None)),
            (0o4755, (Some(uid), None)),
            (0o2755, (None, Some(gid))),
            (0o6755, (Some(uid), Some(gid))),
            (0o2745, (None, None)),
        ] {
            file.set_permissions(Permissions::from_mode(mode)).unwrap();
            let state = file_state(file.as_fd()).unwrap();
            assert_eq!((state.set_uid, state.set_gid), expected, "{mode:o}");
        }
    }
}
