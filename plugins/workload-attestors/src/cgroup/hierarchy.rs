//! The cgroup hierarchies of this host, as our own mount namespace shows them.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, fstat};

use crate::mountinfo::{self, Mount};

/// Where hierarchies are looked for.
#[derive(Debug, Default)]
pub(super) struct Hierarchies {
    /// Whose folders count: root's, which is 0.
    owner: u32,
    given: Option<Vec<Mount>>,
}

impl Hierarchies {
    /// Folders of a test instead of the host's.
    #[cfg(test)]
    pub(super) fn given(mounts: Vec<Mount>, owner: u32) -> Self {
        Self {
            owner,
            given: Some(mounts),
        }
    }

    /// Whether `folder` of the hierarchy with these controllers (none for the unified one), and every folder above it, belongs to root.
    pub(super) fn belongs_to_root(&self, controllers: &str, folder: &str) -> io::Result<bool> {
        let mounts = match &self.given {
            Some(given) => given.clone(),
            None => own_mounts()?,
        };
        let Some(mount_point) = mounts
            .into_iter()
            .find(|mount| shows(mount, controllers))
            .map(|mount| mount.mount_point)
        else {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "its hierarchy is not mounted here as a whole",
            ));
        };
        // Step by step and without links: each folder that was looked at is the one in which the next is opened.
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut here = open(&PathBuf::from(mount_point), flags, Mode::empty())?;
        for part in folder.split('/').filter(|part| !part.is_empty()) {
            if fstat(&here)?.st_uid != self.owner {
                return Ok(false);
            }
            here = match openat(&here, part, flags, Mode::empty()) {
                // The container is being removed.
                Err(Errno::ENOENT) => return Ok(false),
                step => step?,
            };
        }
        Ok(fstat(&here)?.st_uid == self.owner)
    }
}

fn own_mounts() -> io::Result<Vec<Mount>> {
    let mut text = Vec::new();
    let bound = u64::try_from(mountinfo::LIMIT).unwrap_or(u64::MAX);
    File::open("/proc/self/mountinfo")?
        .take(bound)
        .read_to_end(&mut text)?;
    Ok(mountinfo::mounts(&text)
        .filter(|mount| mount.kind.starts_with("cgroup"))
        .collect())
}

/// Whether this mount shows the whole of the hierarchy.
fn shows(mount: &Mount, controllers: &str) -> bool {
    let option = |wanted: &str| mount.super_options.split(',').any(|option| option == wanted);
    mount.root == "/"
        && match controllers {
            "" => mount.kind == "cgroup2",
            some => mount.kind == "cgroup" && some.split(',').all(option),
        }
}
