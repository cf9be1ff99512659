//! Keys that are there again after a restart.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use muster_identity::TrustDomain;
use muster_pki::{KeyAlgorithm, LocalKey, Signer};
use muster_plugin_api::{KeyManager, KeyManagerError, KeyName};
use muster_seal::{Purpose, Seal, SealedFile, SealedFileError};

/// The mode of the folder: what is in it is sealed, but its names tell when authorities were made.
const MODE: u32 = 0o700;
/// What a key's file is called after the key's name.
const SUFFIX: &str = ".key";
/// What sealed keys are bound to, besides trust domain and name.
const PURPOSE: &str = "muster/key-manager/disk/pkcs8";

/// Keys in sealed files, one each.
///
/// A key that was read once stays in memory until it is deleted: signing must not wait for the disk, and a damaged disk
/// must not stop a server that runs.
#[derive(Clone)]
pub struct DiskKeys {
    inner: Arc<Inner>,
}

struct Inner {
    folder: PathBuf,
    trust_domain: TrustDomain,
    seal: Arc<dyn Seal>,
    /// What was made or read. Held over a file's making, so that of two who make one name, one does.
    known: Mutex<BTreeMap<KeyName, Arc<dyn Signer>>>,
}

/// Why the folder is not used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Not a folder, or a link to one.
    #[error("{}: this is not a folder", .0.display())]
    NotAFolder(PathBuf),
    /// Others could put keys into it, or see what is in it.
    #[error("{}: mode {mode:04o} and owner {uid} are refused: the folder of the keys must be ours alone (0700)", path.display())]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// Its owner.
        uid: u32,
    },
    /// The operating system refused.
    #[error("{}", path.display())]
    Io {
        /// The folder.
        path: PathBuf,
        /// Its answer.
        source: io::Error,
    },
}

impl DiskKeys {
    /// The keys of `trust_domain` in `folder`, which is made when it is not there. Blocks.
    ///
    /// # Errors
    /// When the folder is not ours alone, or cannot be made. Keys are looked at when they are loaded.
    pub fn open(
        folder: impl Into<PathBuf>,
        seal: Arc<dyn Seal>,
        trust_domain: TrustDomain,
    ) -> Result<Self, OpenError> {
        let folder = folder.into();
        prepare(&folder)?;
        let known = Mutex::new(BTreeMap::new());
        let inner = Inner {
            folder,
            trust_domain,
            seal,
            known,
        };
        inner.remove_leftovers().map_err(|source| OpenError::Io {
            path: inner.folder.clone(),
            source,
        })?;
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Where they are.
    pub fn folder(&self) -> &Path {
        &self.inner.folder
    }

    /// Runs `work` where it may wait for the disk.
    async fn blocking<T: Send + 'static>(
        &self,
        what: &str,
        work: impl FnOnce(&Inner) -> Result<T, KeyManagerError> + Send + 'static,
    ) -> Result<T, KeyManagerError> {
        let inner = Arc::clone(&self.inner);
        let done = tokio::task::spawn_blocking(move || work(&inner)).await;
        done.map_err(|error| unavailable(what, error))?
    }
}

impl Inner {
    fn file(&self, name: &KeyName) -> SealedFile {
        let purpose = Purpose::new(PURPOSE, format!("{}/{name}", self.trust_domain));
        SealedFile::new(
            self.folder.join(format!("{name}{SUFFIX}")),
            purpose,
            Arc::clone(&self.seal),
        )
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<KeyName, Arc<dyn Signer>>> {
        // Every change below is one call on the map: a panic elsewhere leaves it whole.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn create(&self, name: &KeyName, key: LocalKey) -> Result<Arc<dyn Signer>, KeyManagerError> {
        let pkcs8 = key
            .to_pkcs8()
            .map_err(|error| unavailable(&format!("writing key {name}"), error))?;
        let mut known = self.known();
        match self.file(name).create(pkcs8.expose_secret()) {
            Ok(()) => {}
            Err(SealedFileError::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {
                return Err(KeyManagerError::Exists(name.clone()));
            }
            Err(error) => return Err(unavailable(&format!("writing key {name}"), error)),
        }
        let signer: Arc<dyn Signer> = Arc::new(key);
        known.insert(name.clone(), Arc::clone(&signer));
        Ok(signer)
    }

    fn load(&self, name: &KeyName) -> Result<Option<Arc<dyn Signer>>, KeyManagerError> {
        let mut known = self.known();
        if let Some(signer) = known.get(name) {
            return Ok(Some(Arc::clone(signer)));
        }
        let pkcs8 = match self.file(name).read() {
            Ok(Some(pkcs8)) => pkcs8,
            Ok(None) => return Ok(None),
            Err(error @ SealedFileError::Io { .. }) => {
                return Err(unavailable(&format!("reading key {name}"), error));
            }
            // Neither a changed file nor one that others may read heals by itself.
            Err(error) => {
                return Err(KeyManagerError::Damaged {
                    key: name.clone(),
                    source: error.into(),
                });
            }
        };
        let key = LocalKey::from_pkcs8(&pkcs8).map_err(|error| KeyManagerError::Damaged {
            key: name.clone(),
            source: error.into(),
        })?;
        let signer: Arc<dyn Signer> = Arc::new(key);
        known.insert(name.clone(), Arc::clone(&signer));
        Ok(Some(signer))
    }

    fn delete(&self, name: &KeyName) -> Result<(), KeyManagerError> {
        let mut known = self.known();
        self.file(name)
            .remove()
            .map_err(|error| unavailable(&format!("deleting key {name}"), error))?;
        known.remove(name);
        Ok(())
    }

    /// What writes left behind when the machine stopped in the middle of them: keys that nobody was ever given.
    fn remove_leftovers(&self) -> io::Result<()> {
        for file in fs::read_dir(&self.folder)? {
            let file = file?;
            // A key's name never begins with a dot.
            let name = file.file_name();
            let left_over = |name: &str| name.starts_with('.') && name.contains(".key.new-");
            if name.to_str().is_some_and(left_over) {
                fs::remove_file(file.path())?;
            }
        }
        Ok(())
    }

    fn names(&self) -> io::Result<Vec<KeyName>> {
        let mut names = Vec::new();
        for file in fs::read_dir(&self.folder)? {
            let file = file?.file_name();
            let name = file.to_str().and_then(|name| name.strip_suffix(SUFFIX));
            names.extend(name.and_then(|name| name.parse::<KeyName>().ok()));
        }
        names.sort();
        Ok(names)
    }
}

#[async_trait]
impl KeyManager for DiskKeys {
    fn name(&self) -> &'static str {
        "disk"
    }

    async fn generate(
        &self,
        name: &KeyName,
        algorithm: KeyAlgorithm,
    ) -> Result<Arc<dyn Signer>, KeyManagerError> {
        let key = crate::make(name, algorithm).await?;
        let name = name.clone();
        self.blocking("writing a key", move |inner| inner.create(&name, key))
            .await
    }

    async fn load(&self, name: &KeyName) -> Result<Option<Arc<dyn Signer>>, KeyManagerError> {
        let name = name.clone();
        self.blocking("reading a key", move |inner| inner.load(&name))
            .await
    }

    async fn list(&self) -> Result<Vec<KeyName>, KeyManagerError> {
        self.blocking("listing the keys", |inner| {
            inner
                .names()
                .map_err(|error| unavailable("listing the keys", error))
        })
        .await
    }

    async fn delete(&self, name: &KeyName) -> Result<(), KeyManagerError> {
        let name = name.clone();
        self.blocking("deleting a key", move |inner| inner.delete(&name))
            .await
    }
}

fn unavailable(what: &str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> KeyManagerError {
    KeyManagerError::Unavailable {
        what: what.to_owned(),
        source: source.into(),
    }
}

fn prepare(folder: &Path) -> Result<(), OpenError> {
    let io = |source| OpenError::Io {
        path: folder.to_owned(),
        source,
    };
    match DirBuilder::new().mode(MODE).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(io(error)),
        _ => {}
    }
    let found = fs::symlink_metadata(folder).map_err(io)?;
    if !found.is_dir() {
        return Err(OpenError::NotAFolder(folder.to_owned()));
    }
    let mode = found.mode() & 0o7777;
    if found.uid() != nix::unistd::geteuid().as_raw() || mode & !MODE != 0 {
        return Err(OpenError::Foreign {
            path: folder.to_owned(),
            mode,
            uid: found.uid(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
