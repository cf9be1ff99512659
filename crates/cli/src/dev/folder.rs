//! The folder of a `muster dev`.

use std::{
    fmt, fs,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use muster_identity::TrustDomain;
use muster_pki::bundle::Bundle;

use crate::{
    failure::Failure,
    files::{self, Readers},
};

pub(super) const SERVER_SOCKET: &str = "server.sock";
pub(super) const AGENT_SOCKET: &str = "agent.sock";
pub(super) const AGENT_ADMIN_SOCKET: &str = "agent-admin.sock";
const TRUST_DOMAIN: &str = "trust-domain";

/// The longest path that a socket may have, less the longest of our names.
const LONGEST: usize = 107 - AGENT_ADMIN_SOCKET.len() - 1;

/// A folder that belongs to us: whoever can write into it could put his own sockets in the place of ours.
pub(super) struct Folder(PathBuf);

impl Folder {
    /// Makes or takes the folder. One that served another trust domain is refused: what it holds is signed for
    /// that one.
    pub(super) fn open(
        named: Option<&Path>,
        runtime_dir: &Path,
        trust_domain: &TrustDomain,
    ) -> Result<Self, Failure> {
        let uid = nix::unistd::getuid();
        let path = match named {
            Some(named) => named.to_owned(),
            None if runtime_dir.is_absolute() && runtime_dir.is_dir() => runtime_dir.join("muster-dev"),
            None => PathBuf::from(format!("/tmp/muster-dev-{uid}")),
        };
        let what = format!("could not use the folder {}", path.display());
        let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(&path);
        made.map_err(|error| Failure::usage(&what, error))?;
        // A symbolic link in /tmp may be somebody else's; one that the user named is his own affair.
        let is = if named.is_some() {
            fs::metadata(&path)
        } else {
            fs::symlink_metadata(&path)
        };
        let is = is.map_err(|error| Failure::usage(&what, error))?;
        if is.uid() != uid.as_raw() || is.mode() & 0o022 != 0 || !is.is_dir() {
            return Err(
                Failure::usage(what, "it is not a folder that only you can write to")
                    .next("name one of your own with --dir"),
            );
        }
        let path = path
            .canonicalize()
            .map_err(|error| Failure::usage(&what, error))?;
        if path.as_os_str().len() > LONGEST {
            let why = format!("its path is longer than {LONGEST} bytes, too long for a socket in it");
            return Err(Failure::usage(what, why).next("name a shorter one with --dir"));
        }
        let folder = Self(path);
        folder.keep(trust_domain)?;
        Ok(folder)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes down what others need to find the server and to trust it.
    pub(super) fn announce(&self, address: SocketAddr, bundle: &Bundle) -> Result<(), Failure> {
        let folder = files::Folder::open(&self.0)?;
        folder.write("bundle.pem", bundle.x509_pem().as_bytes(), Readers::All)?;
        folder.write("server.addr", format!("{address}\n").as_bytes(), Readers::All)?;
        Ok(())
    }

    fn keep(&self, trust_domain: &TrustDomain) -> Result<(), Failure> {
        match fs::read_to_string(self.path(TRUST_DOMAIN)) {
            Ok(kept) if kept.trim_end() == trust_domain.as_str() => Ok(()),
            Ok(kept) => Err(Failure::usage(
                format!("could not use the folder {self}"),
                format!("it serves the trust domain {:?}", kept.trim_end()),
            )
            .next("name another folder with --dir, or that trust domain with --trust-domain")),
            Err(_) => {
                let folder = files::Folder::open(&self.0)?;
                folder.write(TRUST_DOMAIN, format!("{trust_domain}\n").as_bytes(), Readers::All)?;
                Ok(())
            }
        }
    }
}

impl fmt::Display for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn td(name: &str) -> TrustDomain {
        name.parse().unwrap()
    }

    #[test]
    fn a_folder_keeps_its_trust_domain() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("dev");
        assert!(Folder::open(Some(&path), Path::new(""), &td("a.org")).is_ok());
        assert!(Folder::open(Some(&path), Path::new(""), &td("a.org")).is_ok());
        let failure = Folder::open(Some(&path), Path::new(""), &td("b.org"))
            .err()
            .unwrap();
        assert_eq!(failure.why, "it serves the trust domain \"a.org\"");
    }

    #[test]
    fn a_folder_that_others_can_write_to_is_refused() {
        let temporary = tempfile::tempdir().unwrap();
        fs::set_permissions(temporary.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(Folder::open(Some(temporary.path()), Path::new(""), &td("a.org")).is_err());
    }

    #[test]
    fn a_path_that_no_socket_can_have_is_refused_by_its_length() {
        let temporary = tempfile::tempdir().unwrap();
        let failure = Folder::open(
            Some(&temporary.path().join("d".repeat(100))),
            Path::new(""),
            &td("a.org"),
        )
        .err()
        .unwrap();
        assert!(failure.why.contains("too long for a socket"), "{failure:?}");
    }
}
