//! What lies in the data folder: `store/`, `keys/`, `audit/`, and `audit-key.pem` to verify the last by.

use std::fs::{DirBuilder, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use muster_audit::{Audit, Settings, public_key_to_pem};
use muster_key_managers::disk::{self, DiskKeys};
use muster_pki::{KeyAlgorithm, Signer};
use muster_plugin_api::{KeyManager, KeyManagerError, KeyName};
use muster_runtime::Clock;
use muster_seal::{KeyFile, KeyFileError, Seal};
use tokio::task::{JoinHandle, spawn_blocking};
use tracing::info;

use crate::config::Config;
use crate::store::journal_and_sled::{self, Opened};

/// The public key that signs the audit log's checkpoints, for `muster audit verify`.
const AUDIT_KEY: &str = "audit-key.pem";

/// The state, opened. Whoever has it is the only server on the folder.
pub(crate) struct State {
    pub(crate) store: Opened,
    pub(crate) keys: Arc<dyn KeyManager>,
    pub(crate) seal: Arc<dyn Seal>,
    pub(crate) audit: OpeningAudit,
}

/// The audit log while it is read and checked: it takes as long as the entries do, which are read meanwhile.
pub(crate) struct OpeningAudit(JoinHandle<Result<Audit, StateError>>);

impl OpeningAudit {
    /// Waits until it is open.
    pub(crate) async fn opened(self) -> Result<Audit, StateError> {
        self.0.await.map_err(|_| StateError::Broken)?
    }
}

/// Why the state could not be opened. Nothing was overwritten.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The folder can't be used.
    #[error("the data folder {} can't be used: {why}", path.display())]
    Folder {
        /// Which folder.
        path: PathBuf,
        /// What is wrong, and what to do.
        why: String,
    },
    /// The store.
    #[error("opening the store")]
    Store(#[from] journal_and_sled::OpenError),
    /// The file that seals the keys.
    #[error("opening the sealing key")]
    SealingKey(#[from] KeyFileError),
    /// The folder of the keys.
    #[error("opening the folder of the keys")]
    KeyFolder(#[from] disk::OpenError),
    /// The keys.
    #[error("opening the keys")]
    Keys(#[from] KeyManagerError),
    /// The audit log.
    #[error("opening the audit log")]
    Audit(#[from] muster_audit::OpenError),
    /// The file with the audit log's public key.
    #[error("writing {}", .path.display())]
    PublicKey {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The thread that opened it broke.
    #[error("opening the state broke off")]
    Broken,
}

impl State {
    /// Opens, and at the first start makes, everything below the data folder. The store comes first: it holds the lock. The audit log is still being read when this returns.
    pub(crate) async fn open(config: &Config, clock: Arc<dyn Clock>) -> Result<Self, StateError> {
        let dir = config.data_dir.clone();
        let store = blocking(move || {
            make_private(&dir)?;
            Ok(journal_and_sled::open(
                &dir.join("store"),
                journal_and_sled::Settings::default(),
            )?)
        })
        .await?;
        let keys_dir = config.data_dir.join("keys");
        let sealing_key = config
            .ca
            .sealing_key
            .clone()
            .unwrap_or_else(|| keys_dir.join("sealing.key"));
        let trust_domain = config.trust_domain.clone();
        let (keys, seal) = blocking(move || {
            make_private(&keys_dir)?;
            let seal: Arc<dyn Seal> = Arc::new(KeyFile::open_or_create(sealing_key)?);
            let keys = DiskKeys::open(keys_dir, Arc::clone(&seal), trust_domain)?;
            Ok((Arc::new(keys), seal))
        })
        .await?;
        let signer = audit_key(&*keys).await?;
        let key_file = config.data_dir.join(AUDIT_KEY);
        let pem = public_key_to_pem(signer.public_key());
        blocking(move || publish(&key_file, &pem)).await?;
        let origin = format!("{}/audit", config.trust_domain);
        let dir = config.data_dir.join("audit");
        let settings = Settings::new(origin, signer, Arc::new(move || clock.now()));
        let audit = OpeningAudit(spawn_blocking(move || Ok(Audit::open(&dir, settings)?)));
        for note in &store.notes {
            info!(note, "the store was repaired");
        }
        Ok(Self {
            store,
            keys,
            seal,
            audit,
        })
    }
}

/// Puts a public key where an auditor finds it; the file is replaced whole, and only if it says something else.
fn publish(path: &Path, pem: &str) -> Result<(), StateError> {
    if std::fs::read(path).is_ok_and(|there| there == pem.as_bytes()) {
        return Ok(());
    }
    let new = path.with_extension("new");
    let written = std::fs::write(&new, pem).and_then(|()| std::fs::rename(&new, path));
    written.map_err(|source| StateError::PublicKey {
        path: path.to_owned(),
        source,
    })
}

/// The key that signs the audit log's checkpoints, made at the first start.
async fn audit_key(keys: &dyn KeyManager) -> Result<Arc<dyn Signer>, KeyManagerError> {
    let name: KeyName = "audit-log".parse().expect("the name is a key's name");
    match keys.load(&name).await? {
        Some(signer) => Ok(signer),
        None => keys.generate(&name, KeyAlgorithm::EcP256).await,
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StateError> + Send + 'static,
) -> Result<T, StateError> {
    spawn_blocking(work).await.map_err(|_| StateError::Broken)?
}

/// Makes the folder if it is not there, and refuses one that others could read or change.
fn make_private(path: &Path) -> Result<(), StateError> {
    let unusable = |why: String| StateError::Folder {
        path: path.to_owned(),
        why,
    };
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(unusable(format!(
                "{error}; make it, owned by the server's user, with mode 0700"
            )));
        }
        _ => {}
    }
    let found: Metadata = path
        .symlink_metadata()
        .map_err(|error| unusable(error.to_string()))?;
    let us = nix::unistd::geteuid().as_raw();
    if !found.is_dir() {
        return Err(unusable(
            "it is no folder (a symbolic link is not followed)".into(),
        ));
    }
    if found.uid() != us {
        return Err(unusable(format!(
            "it belongs to uid {}, the server runs as uid {us}",
            found.uid()
        )));
    }
    if found.mode() & 0o077 != 0 {
        return Err(unusable(format!(
            "its mode is {:04o}; others may not read or change it: chmod 0700",
            found.mode() & 0o7777
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_folder_that_others_could_read_or_that_is_a_link_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let made = folder.path().join("new");
        make_private(&made).unwrap();
        assert_eq!(made.metadata().unwrap().mode() & 0o777, 0o700);
        make_private(&made).unwrap();
        std::fs::set_permissions(&made, std::fs::Permissions::from_mode(0o750)).unwrap();
        assert!(
            make_private(&made)
                .unwrap_err()
                .to_string()
                .contains("chmod 0700")
        );
        let link = folder.path().join("link");
        symlink(folder.path(), &link).unwrap();
        assert!(
            make_private(&link)
                .unwrap_err()
                .to_string()
                .contains("symbolic link")
        );
    }
}
