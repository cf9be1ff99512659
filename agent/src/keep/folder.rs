//! The folder in which the agent keeps its state.

use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use muster_identity::TrustDomain;
use muster_pki::{KeyAlgorithm, LocalKey, LocalKeyError};
use muster_seal::{KeyFile, KeyFileError, Purpose, Seal, SealedFile, SealedFileError};
use nix::libc;
use nix::unistd::geteuid;

use super::{NodeState, NodeStore, NodeStoreError, SvidStore};

/// The agent's folder, and the seal over what is in it.
pub struct Folder {
    path: PathBuf,
    seal: Arc<dyn Seal>,
}

/// Why the folder can't be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenFolderError {
    /// It can't be made or looked at.
    #[error("the data folder {}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A link could be pointed elsewhere, and a file is none.
    #[error("the data folder {} is a symbolic link or no folder: name the real one", .0.display())]
    NotAFolder(PathBuf),
    /// Its owner could read and replace everything in it.
    #[error("the data folder {} belongs to uid {owner}, but this process runs as uid {own}", path.display())]
    Foreign {
        /// Which.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        own: u32,
    },
    /// Others may look into it.
    #[error("the data folder {} has mode {mode:o}; others must not enter it (chmod 0700)", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The seal's key can't be used.
    #[error("the sealing key")]
    Seal(#[from] KeyFileError),
    /// The audit log's key can't be read or written.
    #[error("the audit log's key")]
    AuditKey(#[from] SealedFileError),
    /// The audit log's key is none.
    #[error("the audit log's key")]
    NotAKey(#[from] LocalKeyError),
}

impl Folder {
    /// Opens the folder, which is made when it is not there.
    pub fn open(path: &Path) -> Result<Self, OpenFolderError> {
        let wrong = |source| OpenFolderError::Io {
            path: path.to_owned(),
            source,
        };
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(wrong)?;
        check(path)?;
        let seal = Arc::new(KeyFile::open_or_create(path.join("seal.key"))?);
        Ok(Self {
            path: path.to_owned(),
            seal,
        })
    }

    /// The node's own state; only one process can have it.
    pub fn node(&self) -> Result<(NodeStore, Option<NodeState>), NodeStoreError> {
        NodeStore::open(&self.path.join("node"), Arc::clone(&self.seal))
    }

    /// What is held for workloads.
    pub fn svids(&self, trust_domain: &TrustDomain) -> SvidStore {
        SvidStore::new(
            self.path.join("svids.sealed"),
            trust_domain.clone(),
            Arc::clone(&self.seal),
        )
    }

    /// Where the audit log is.
    pub fn audit(&self) -> PathBuf {
        self.path.join("audit")
    }

    /// The key that signs the audit log's checkpoints, made at the first start.
    pub fn audit_key(&self) -> Result<LocalKey, OpenFolderError> {
        let purpose = Purpose::new("muster/agent/audit-key", "audit");
        let file = SealedFile::new(
            self.path.join("audit-key.sealed"),
            purpose,
            Arc::clone(&self.seal),
        );
        if let Some(pkcs8) = file.read()? {
            return Ok(LocalKey::from_pkcs8(&pkcs8)?);
        }
        let key = LocalKey::generate(KeyAlgorithm::EcP256)?;
        file.create(key.to_pkcs8()?.expose_secret())?;
        Ok(key)
    }

    /// What holds the sealing key.
    pub fn seal_kind(&self) -> muster_seal::SealKind {
        self.seal.kind()
    }
}

/// Looks at the folder that was opened, not at what a link of that name leads to.
fn check(path: &Path) -> Result<(), OpenFolderError> {
    let wrong = |source| OpenFolderError::Io {
        path: path.to_owned(),
        source,
    };
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_DIRECTORY)
        .open(path);
    let found = match opened {
        Ok(folder) => folder.metadata().map_err(wrong)?,
        Err(error) if matches!(error.raw_os_error(), Some(libc::ELOOP | libc::ENOTDIR)) => {
            return Err(OpenFolderError::NotAFolder(path.to_owned()));
        }
        Err(source) => return Err(wrong(source)),
    };
    let (owner, own, mode) = (found.uid(), geteuid().as_raw(), found.mode() & 0o7777);
    if owner != own {
        let path = path.to_owned();
        return Err(OpenFolderError::Foreign { path, owner, own });
    }
    if mode & 0o077 != 0 {
        let path = path.to_owned();
        return Err(OpenFolderError::Open { path, mode });
    }
    Ok(())
}

impl fmt::Debug for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Folder")
            .field("path", &self.path)
            .field("seal", &self.seal.kind())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use super::*;

    #[test]
    fn a_link_to_a_folder_is_not_followed() {
        let outer = tempfile::tempdir().unwrap();
        let (real, link) = (outer.path().join("real"), outer.path().join("link"));
        Folder::open(&real).unwrap();
        symlink(&real, &link).unwrap();
        assert!(matches!(Folder::open(&link), Err(OpenFolderError::NotAFolder(_))));
        let file = outer.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(Folder::open(&file).is_err());
    }

    #[test]
    fn a_folder_that_others_may_enter_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o750)).unwrap();
        let refused = Folder::open(folder.path());
        assert!(matches!(refused, Err(OpenFolderError::Open { mode: 0o750, .. })));
    }

    #[test]
    fn the_folder_of_another_user_is_refused() {
        if !geteuid().is_root() {
            println!("left out: only root can give a folder away");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        chown(folder.path(), Some(65_534), None).unwrap();
        let refused = Folder::open(folder.path());
        assert!(matches!(
            refused,
            Err(OpenFolderError::Foreign { owner: 65_534, .. })
        ));
    }
}
