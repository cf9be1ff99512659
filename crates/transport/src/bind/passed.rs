//! A socket that a service manager bound and keeps: connections wait in it while the daemon restarts.

use std::{
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::net::UnixListener,
    },
    path::Path,
};

use nix::{
    fcntl::AtFlags,
    sys::{
        socket::{SockType, UnixAddr, getsockname, getsockopt, setsockopt, sockopt},
        stat::fstatat,
    },
    unistd::Uid,
};

use super::{BindError, BoundSocket, Keeper, file_id, open_directory};

impl BoundSocket {
    /// Takes a socket over that somebody else bound, once it is known to be the one that clients find at `path`, with
    /// exactly the rights it would have had from us. Its name stays when we go: it is not ours.
    pub(crate) fn adopt(
        listener: OwnedFd,
        path: &Path,
        mode: u32,
    ) -> Result<(Self, UnixListener), BindError> {
        let unfit = |reason: String| BindError::Unfit {
            path: path.to_owned(),
            reason,
        };
        let failed = |action| {
            move |error: nix::Error| BindError::Io {
                action,
                path: path.to_owned(),
                source: error.into(),
            }
        };
        if getsockopt(&listener, sockopt::SockType) != Ok(SockType::Stream)
            || getsockopt(&listener, sockopt::AcceptConn) != Ok(true)
        {
            return Err(unfit("it is no stream socket that listens".to_owned()));
        }
        // An address of another family is none of this type.
        let bound_to = getsockname::<UnixAddr>(listener.as_raw_fd())
            .map_err(|_| unfit("it is no Unix socket".to_owned()))?;
        if bound_to.path() != Some(path) {
            let bound_to = bound_to
                .path()
                .map_or("no path".to_owned(), |at| at.display().to_string());
            return Err(unfit(format!("it is bound to {bound_to}")));
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(BindError::Path(path.to_owned()));
        };
        let directory = open_directory(path, parent)?;
        let found = match fstatat(&directory, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(nix::Error::ENOENT) => {
                return Err(unfit(
                    "its name has been removed, so nobody finds it: restart the socket unit".to_owned(),
                ));
            }
            other => other.map_err(failed("looking at"))?,
        };
        let trusted_owner = found.st_uid == 0 || found.st_uid == Uid::effective().as_raw();
        if found.st_mode & libc::S_IFMT != libc::S_IFSOCK || !trusted_owner {
            return Err(BindError::Occupied(path.to_owned()));
        }
        if found.st_mode & 0o7777 != mode {
            let has = found.st_mode & 0o7777;
            return Err(unfit(format!(
                "its mode is {has:o}, and {mode:o} is configured: give the socket unit SocketMode={mode:04o}"
            )));
        }
        if getsockopt(&listener, sockopt::PassCred) != Ok(true) {
            // From Linux 6.16 on, a connection has this from the moment it is made: what was sent before now on those
            // that wait will have no sender, and they will be refused.
            tracing::warn!(
                path = %path.display(),
                "the socket was passed without PassCredentials=yes in its unit: connections made before now are refused"
            );
            setsockopt(&listener, sockopt::PassCred, &true)
                .map_err(failed("asking for sender credentials on"))?;
        }
        let listener = UnixListener::from(listener);
        listener.set_nonblocking(true).map_err(|source| BindError::Io {
            action: "preparing",
            path: path.to_owned(),
            source,
        })?;
        let bound = Self {
            path: path.to_owned(),
            directory,
            name: name.to_owned(),
            id: file_id(&found),
            keeper: Keeper::ServiceManager,
        };
        Ok((bound, listener))
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt, os::unix::net::UnixStream};

    use super::*;

    fn directory() -> tempfile::TempDir {
        tempfile::Builder::new().prefix("passed").tempdir().unwrap()
    }

    fn listening(path: &Path, mode: u32) -> OwnedFd {
        let listener = UnixListener::bind(path).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        listener.into()
    }

    fn reason(refused: Result<(BoundSocket, UnixListener), BindError>) -> String {
        match refused {
            Err(BindError::Unfit { reason, .. }) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_passed_socket_is_taken_over_and_its_name_outlives_us() {
        let dir = directory();
        let path = dir.path().join("api.sock");
        let passed = listening(&path, 0o777);
        let again = passed.try_clone().unwrap();
        let (bound, listener) = BoundSocket::adopt(passed, &path, 0o777).unwrap();
        assert!(bound.is_in_place());
        assert_eq!(getsockopt(&listener, sockopt::PassCred), Ok(true));
        drop((bound, listener));
        // The manager still has it: a client that comes now waits, and finds the next daemon.
        UnixStream::connect(&path).unwrap();
        let (_bound, listener) = BoundSocket::adopt(again, &path, 0o777).unwrap();
        listener.accept().unwrap();
    }

    #[test]
    fn a_socket_that_clients_would_not_find_there_is_refused() {
        let dir = directory();
        let (path, other) = (dir.path().join("api.sock"), dir.path().join("other.sock"));
        let passed = listening(&other, 0o777);
        assert!(reason(BoundSocket::adopt(passed, &path, 0o777)).contains("is bound to"));
        let passed = listening(&path, 0o777);
        fs::remove_file(&path).unwrap();
        assert!(reason(BoundSocket::adopt(passed, &path, 0o777)).contains("has been removed"));
    }

    #[test]
    fn the_removed_name_of_a_passed_socket_is_not_given_to_another() {
        let dir = directory();
        let path = dir.path().join("api.sock");
        let (bound, _listener) = BoundSocket::adopt(listening(&path, 0o777), &path, 0o777).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(!bound.is_in_place());
        assert!(reason(bound.again(0o777)).contains("has been removed"));
        assert!(!path.exists());
    }

    #[test]
    fn a_socket_of_another_kind_or_with_other_rights_is_refused() {
        let dir = directory();
        let path = dir.path().join("api.sock");
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(
            reason(BoundSocket::adopt(tcp.into(), &path, 0o777)),
            "it is no Unix socket"
        );
        let (connected, _peer) = UnixStream::pair().unwrap();
        assert!(reason(BoundSocket::adopt(connected.into(), &path, 0o777)).contains("listens"));
        let file = fs::File::create(dir.path().join("file")).unwrap();
        assert!(reason(BoundSocket::adopt(file.into(), &path, 0o777)).contains("listens"));
        let passed = listening(&path, 0o700);
        assert!(reason(BoundSocket::adopt(passed, &path, 0o777)).contains("SocketMode=0777"));
    }

    #[test]
    fn a_directory_that_others_can_write_is_refused_here_too() {
        let dir = directory();
        let path = dir.path().join("api.sock");
        let passed = listening(&path, 0o777);
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let refused = BoundSocket::adopt(passed, &path, 0o777);
        assert!(matches!(refused, Err(BindError::Insecure { .. })));
    }
}
