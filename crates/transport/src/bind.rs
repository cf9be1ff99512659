//! Binding a Unix socket so that nobody can stand in our place, and putting it back when somebody removes it.
//!
//! Each directory of the path is opened by descriptor without following links, and must be one that no other user can
//! change. The socket is made under a temporary name, gets its mode, begins to listen, and is then renamed into place:
//! at no moment does the name stand for a socket with wrong rights or one that refuses connections.

mod passed;

use std::{
    ffi::OsString,
    io,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::net::UnixListener,
    },
    path::{Component, Path, PathBuf},
};

use nix::{
    fcntl::{AtFlags, OFlag, open, openat, renameat},
    sys::{
        socket::{
            AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, setsockopt, socket, sockopt,
        },
        stat::{FchmodatFlags, FileStat, Mode, fchmodat, fstat, fstatat},
    },
    unistd::{Uid, UnlinkatFlags, unlinkat},
};

use crate::kernel::FileId;

/// Clients must be able to name the socket in a `sockaddr_un`.
const PATH_LIMIT: usize = 107;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1_024;

/// Why a socket was not bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Sockets have absolute paths without `.`, `..` and abstract names.
    #[error("{0}: the path of a socket must be absolute, plain and end in a name")]
    Path(PathBuf),
    /// Longer than clients can connect to.
    #[error("{0}: the path of a socket can have at most {PATH_LIMIT} bytes")]
    TooLong(PathBuf),
    /// A symbolic link could be pointed elsewhere.
    #[error("{0} is a symbolic link or no directory: name the real directory")]
    NotADirectory(PathBuf),
    /// Another user could replace what lies in it.
    #[error(
        "{path} can be changed by others (owner {owner}, mode {mode:o}): it must belong to root or to us and be \
             writable by its owner only"
    )]
    Insecure {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Its mode bits.
        mode: u32,
    },
    /// Something else has the name.
    #[error("{0} exists and is no socket of ours: remove it if nobody needs it")]
    Occupied(PathBuf),
    /// Another process listens.
    #[error("{0} is in use: another process listens on it")]
    InUse(PathBuf),
    /// A socket that was passed to us is not the one that clients should find.
    #[error("the socket passed for {path} cannot be used: {reason}")]
    Unfit {
        /// Where it should be.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The kernel refused.
    #[error("{action} {path}")]
    Io {
        /// What we were doing.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// A socket that listens under a name of its own. Dropping it removes the name if we gave it and it still stands.
#[derive(Debug)]
pub(crate) struct BoundSocket {
    path: PathBuf,
    directory: OwnedFd,
    name: OsString,
    id: FileId,
    keeper: Keeper,
}

/// Who made a socket, and removes its name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Keeper {
    Us,
    ServiceManager,
}

impl BoundSocket {
    /// Binds `path` with `mode`. The listener does not block, and the kernel names the sender of every segment on the
    /// connections it gives: also of those sent before they are accepted, so the option is set on the listener itself.
    pub(crate) fn bind(path: &Path, mode: u32) -> Result<(Self, UnixListener), BindError> {
        if path.as_os_str().len() > PATH_LIMIT {
            return Err(BindError::TooLong(path.to_owned()));
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(BindError::Path(path.to_owned()));
        };
        let directory = open_directory(path, parent)?;
        refuse_if_taken(path, &directory, name)?;

        let failed = |action| {
            move |error: nix::Error| BindError::Io {
                action,
                path: path.to_owned(),
                source: error.into(),
            }
        };
        let mut random = [0; 8];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| BindError::Io {
            action: "naming",
            path: path.to_owned(),
            source: io::ErrorKind::Other.into(),
        })?;
        let temporary = OsString::from(format!(".{:016x}", u64::from_ne_bytes(random)));
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let listener = socket(AddressFamily::Unix, SockType::Stream, flags, None)
            .map_err(failed("making a socket for"))?;
        setsockopt(&listener, sockopt::PassCred, &true)
            .map_err(failed("asking for sender credentials on"))?;
        // There is no bind below a descriptor, but /proc has a path for it.
        let address = Path::new("/proc/self/fd")
            .join(directory.as_raw_fd().to_string())
            .join(&temporary);
        let address = UnixAddr::new(&address).map_err(failed("binding"))?;
        bind(listener.as_raw_fd(), &address).map_err(failed("binding"))?;
        let placed = (|| {
            // A mode with fewer rights than the umask would leave can't be had by bind alone.
            let bits = Mode::from_bits_truncate(mode);
            fchmodat(
                &directory,
                temporary.as_os_str(),
                bits,
                FchmodatFlags::FollowSymlink,
            )
            .map_err(failed("setting the mode of"))?;
            let backlog = Backlog::new(BACKLOG).map_err(failed("listening on"))?;
            listen(&listener, backlog).map_err(failed("listening on"))?;
            let id = file_id(
                &fstatat(&directory, temporary.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW)
                    .map_err(failed("looking at"))?,
            );
            renameat(&directory, temporary.as_os_str(), &directory, name)
                .map_err(failed("putting in place"))?;
            Ok(id)
        })();
        let id = match placed {
            Ok(id) => id,
            Err(error) => {
                // What we can't put in place must not stay under its temporary name; the first error counts.
                let _ = unlinkat(&directory, temporary.as_os_str(), UnlinkatFlags::NoRemoveDir);
                return Err(error);
            }
        };
        let bound = Self {
            path: path.to_owned(),
            directory,
            name: name.to_owned(),
            id,
            keeper: Keeper::Us,
        };
        Ok((bound, UnixListener::from(listener)))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Another one under the same name, if that is ours to give.
    pub(crate) fn again(&self, mode: u32) -> Result<(Self, UnixListener), BindError> {
        match self.keeper {
            Keeper::Us => Self::bind(&self.path, mode),
            Keeper::ServiceManager => Err(BindError::Unfit {
                path: self.path.clone(),
                reason: "its name has been removed, so nobody finds it: restart the socket unit".to_owned(),
            }),
        }
    }

    /// Whether clients that look up the path still find this socket.
    pub(crate) fn is_in_place(&self) -> bool {
        nix::sys::stat::lstat(&self.path).is_ok_and(|found| file_id(&found) == self.id)
    }
}

impl Drop for BoundSocket {
    fn drop(&mut self) {
        if self.keeper != Keeper::Us {
            return;
        }
        let ours = fstatat(
            &self.directory,
            self.name.as_os_str(),
            AtFlags::AT_SYMLINK_NOFOLLOW,
        )
        .is_ok_and(|found| file_id(&found) == self.id);
        if ours {
            let _ = unlinkat(&self.directory, self.name.as_os_str(), UnlinkatFlags::NoRemoveDir);
        }
    }
}

/// Opens `parent` component by component. Those on the way may be writable by others only with the sticky bit (`/tmp`):
/// what lies in them is then safe from anybody but its owner. The last one may not, since names in it can be taken first.
fn open_directory(path: &Path, parent: &Path) -> Result<OwnedFd, BindError> {
    let failed = |action, at: &Path, error: nix::Error| match error {
        nix::Error::ELOOP | nix::Error::ENOTDIR => BindError::NotADirectory(at.to_owned()),
        error => BindError::Io {
            action,
            path: at.to_owned(),
            source: error.into(),
        },
    };
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut components = parent.components();
    if components.next() != Some(Component::RootDir) {
        return Err(BindError::Path(path.to_owned()));
    }
    let mut at = PathBuf::from("/");
    let mut directory = open("/", flags, Mode::empty()).map_err(|error| failed("opening", &at, error))?;
    let mut rest = components.peekable();
    loop {
        let stat = fstat(directory.as_fd()).map_err(|error| failed("looking at", &at, error))?;
        let trusted_owner = stat.st_uid == 0 || stat.st_uid == Uid::effective().as_raw();
        let others_write = stat.st_mode & 0o022 != 0;
        let sticky_on_the_way = stat.st_mode & libc::S_ISVTX != 0 && rest.peek().is_some();
        if !trusted_owner || (others_write && !sticky_on_the_way) {
            return Err(BindError::Insecure {
                path: at,
                owner: stat.st_uid,
                mode: stat.st_mode & 0o7777,
            });
        }
        match rest.next() {
            None => return Ok(directory),
            Some(Component::Normal(name)) => {
                at.push(name);
                directory = openat(&directory, name, flags, Mode::empty())
                    .map_err(|error| failed("opening", &at, error))?;
            }
            Some(_) => return Err(BindError::Path(path.to_owned())),
        }
    }
}

/// The name must be free, or a socket of ours (or root's) that nobody listens on: what a killed daemon leaves behind.
fn refuse_if_taken(path: &Path, directory: &OwnedFd, name: &std::ffi::OsStr) -> Result<(), BindError> {
    let found = match fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Err(nix::Error::ENOENT) => return Ok(()),
        Err(error) => {
            return Err(BindError::Io {
                action: "looking at",
                path: path.to_owned(),
                source: error.into(),
            });
        }
        Ok(found) => found,
    };
    let is_socket = found.st_mode & libc::S_IFMT == libc::S_IFSOCK;
    if !is_socket || !(found.st_uid == 0 || found.st_uid == Uid::effective().as_raw()) {
        return Err(BindError::Occupied(path.to_owned()));
    }
    let address = Path::new("/proc/self/fd")
        .join(directory.as_raw_fd().to_string())
        .join(Path::new(name));
    let probe = (|| {
        // Without blocking: a listener with a full backlog answers EAGAIN, and is one all the same.
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let probe = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        nix::sys::socket::connect(probe.as_raw_fd(), &UnixAddr::new(&address)?)
    })();
    match probe {
        Err(nix::Error::ECONNREFUSED | nix::Error::ENOENT) => Ok(()),
        _ => Err(BindError::InUse(path.to_owned())),
    }
}

fn file_id(stat: &FileStat) -> FileId {
    FileId {
        dev: stat.st_dev,
        ino: stat.st_ino,
    }
}

#[cfg(test)]
mod tests;
