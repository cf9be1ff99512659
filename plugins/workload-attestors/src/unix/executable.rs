//! What a process runs: the path and the hash of its executable.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use muster_identity::FactSource;
use muster_plugin_api::{AttestError, Caller, CallerEvidence, Hope};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;

use super::hasher::{Hasher, Unhashed};
use super::{Findings, HashSettings};
use crate::kernel::{FileState, file_state};
use crate::mountinfo;

/// Measures executables.
pub(super) struct Executables {
    hasher: Option<Hasher>,
}

impl Executables {
    pub(super) fn start(hash: Option<HashSettings>) -> io::Result<Self> {
        Ok(Self {
            hasher: hash.map(Hasher::start).transpose()?,
        })
    }

    /// The path and the hash of what `caller` runs, which must still be what its evidence says.
    pub(super) async fn measure(&self, caller: &Caller, uid: u32) -> Result<Findings, AttestError> {
        let (file, state, link) = match open_running(caller) {
            Ok(running) => running,
            Err(reason) => {
                caller.check_alive()?;
                return Ok(unknown(Hope::MayHeal, &reason));
            }
        };
        if !runs_as_its_file_says(&state, caller.evidence()) {
            let reason =
                "its executable is a set-id file and it has not the ids of one: it may only show that file";
            return Ok(unknown(Hope::Final, reason));
        }
        let mut found = Findings::default();
        match path_of(&link, &state) {
            Ok(path) => found.state("path", path, FactSource::Executable),
            Err(reason) => found.lack("path:", Hope::Final, reason),
        }
        match &self.hasher {
            None => found.lack("sha256:", Hope::Final, "executables are not hashed on this node"),
            Some(hasher) => match self.hash(hasher, caller, uid, file, &state).await {
                Ok(digest) => found.state("sha256", digest, FactSource::Executable),
                Err(Unhashed { hope, reason }) => found.lack("sha256:", hope, &reason),
            },
        }
        Ok(found)
    }

    async fn hash(
        &self,
        hasher: &Hasher,
        caller: &Caller,
        uid: u32,
        file: OwnedFd,
        state: &FileState,
    ) -> Result<Arc<str>, Unhashed> {
        if let Some(digest) = hasher.remembered(&state.version) {
            return Ok(digest);
        }
        let kind =
            file_system(caller, state).ok_or_else(|| Unhashed::for_good("its file system is not known"))?;
        if !is_local(&kind) {
            return Err(Unhashed::for_good(format!(
                "files on {kind} are not hashed: their server may never answer"
            )));
        }
        hasher.hash(uid, file, state.version).await
    }
}

/// Neither path nor hash is known, for one reason.
fn unknown(hope: Hope, reason: &str) -> Findings {
    let mut found = Findings::default();
    found.lack("path:", hope, reason);
    found.lack("sha256:", hope, reason);
    found
}

/// Whether the process has the ids that an exec of this file gives: the owner of a set-user-id file among its user ids, the group of a
/// set-group-id file among its group ids.
///
/// A user can have a process of his own show any file that he may read and run (a child in a user namespace that shares its memory and calls
/// `PR_SET_MM_MAP`), but gains no ids by it. An exec under `no_new_privs` or from a `nosuid` mount gives none either, and a program may have
/// given them up: these are refused too, since nothing tells them from a forged one.
fn runs_as_its_file_says(state: &FileState, evidence: &CallerEvidence) -> bool {
    state.set_uid.is_none_or(|owner| evidence.uids.contains(owner))
        && state.set_gid.is_none_or(|group| evidence.gids.contains(group))
}

/// The file that runs, without reading it and without asking its file system: a FUSE daemon may never answer.
fn open_running(caller: &Caller) -> Result<(OwnedFd, FileState, Vec<u8>), String> {
    let expected = caller
        .evidence()
        .executable
        .ok_or("its executable was not seen when its evidence was taken")?;
    let file = caller
        .open("exe", OFlag::O_PATH)
        .map_err(|error| report(&error))?;
    let link = caller.read_link("exe").map_err(|error| report(&error))?;
    let state = file_state(file.as_fd()).map_err(|error| format!("its executable: {error}"))?;
    if state.id != expected {
        return Err("it runs another executable than when its evidence was taken".to_owned());
    }
    Ok((file, state, link.as_bytes().to_vec()))
}

/// The path of the file that runs, if it is one in our mount namespace. `link` is what the kernel calls the file; for a deleted one it adds
/// " (deleted)", which a living file may be called too, and for one in another mount namespace it is a path there.
fn path_of<'a>(link: &'a [u8], state: &FileState) -> Result<&'a str, &'static str> {
    if state.links == 0 {
        return Err("its executable has no name any more");
    }
    let path = std::str::from_utf8(link).map_err(|_| "its path is not UTF-8")?;
    if !path.starts_with('/') {
        return Err("its executable is in no mount namespace");
    }
    let here = look_up(path).map_err(|_| "its path is another file or none in our mount namespace")?;
    let same = file_state(here.as_fd()).is_ok_and(|here| here.id == state.id);
    if same {
        Ok(path)
    } else {
        Err("its path is another file in our mount namespace")
    }
}

/// Looks a path up from what the kernel has in memory, which is where every step to a running file is: no file system is asked. Links are
/// not followed, since the kernel's own word for the file has none.
fn look_up(path: &str) -> Result<OwnedFd, Errno> {
    const RESOLVE_CACHED: u64 = 0x20;
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let strict = ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let how = |resolve| OpenHow::new().flags(flags).resolve(resolve);
    let cached = ResolveFlag::from_bits_retain(RESOLVE_CACHED) | strict;
    // A rename somewhere on the way makes the kernel give up its quick walk; it does not last.
    for _ in 0..8 {
        match openat2(AT_FDCWD, OsStr::new(path), how(cached)) {
            Err(Errno::EAGAIN) => {}
            // Before 5.12 there is no quick walk, before 5.6 no openat2.
            Err(Errno::EINVAL) => return openat2(AT_FDCWD, OsStr::new(path), how(strict)),
            Err(Errno::ENOSYS) => return open(path, flags, Mode::empty()),
            found => return found,
        }
    }
    Err(Errno::EAGAIN)
}

/// The kind of file system that the running file was reached through: in our mounts or, for a container, in the caller's. Nothing but the
/// kind is taken from the caller's table, which the kernel writes.
fn file_system(caller: &Caller, state: &FileState) -> Option<String> {
    let mount = state.mount?;
    let ours = std::fs::read("/proc/self/mountinfo").ok()?;
    mountinfo::kind_of(&ours, mount)
        .or_else(|| mountinfo::kind_of(&caller.read("mountinfo", mountinfo::LIMIT).ok()?, mount))
}

/// File systems whose reads end without anybody else's help. Whatever is not listed may be a network or a FUSE one.
fn is_local(kind: &str) -> bool {
    const LOCAL: [&str; 17] = [
        "bcachefs", "btrfs", "erofs", "exfat", "ext2", "ext3", "ext4", "f2fs", "iso9660", "overlay", "ramfs",
        "rootfs", "squashfs", "tmpfs", "vfat", "xfs", "zfs",
    ];
    LOCAL.contains(&kind)
}

/// The descriptor as a path, by which it can be opened again for reading: the same file, whatever happened to its names.
pub(super) fn by_descriptor(file: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// The whole chain of an error, for a gap's reason.
fn report(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
