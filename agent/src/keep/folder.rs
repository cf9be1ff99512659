//! The folder in which the agent keeps its state.

use std::fmt;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use muster_identity::TrustDomain;
use muster_pki::{KeyAlgorithm, LocalKey, LocalKeyError};
use muster_seal::{KeyFile, KeyFileError, Purpose, Seal, SealedFile, SealedFileError};

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
        let mode = std::fs::metadata(path).map_err(wrong)?.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(OpenFolderError::Open {
                path: path.to_owned(),
                mode,
            });
        }
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

impl fmt::Debug for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Folder")
            .field("path", &self.path)
            .field("seal", &self.seal.kind())
            .finish()
    }
}
