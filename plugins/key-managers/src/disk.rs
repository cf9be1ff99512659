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
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use muster_pki::SignatureScheme;
    use muster_plugin_api::conformance;
    use muster_seal::KeyFile;

    use super::*;

    fn name(text: &str) -> KeyName {
        text.parse().unwrap()
    }

    fn open(dir: &Path, trust_domain: &str) -> DiskKeys {
        let seal = Arc::new(KeyFile::open_or_create(dir.join("seal.key")).unwrap());
        DiskKeys::open(dir.join("keys"), seal, trust_domain.parse().unwrap()).unwrap()
    }

    #[tokio::test]
    async fn the_disk_keeps_the_promises_of_a_key_manager() {
        let dir = tempfile::tempdir().unwrap();
        conformance::key_manager(&open(dir.path(), "example.org")).await;
    }

    #[tokio::test]
    async fn keys_of_every_kind_are_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let keys = open(dir.path(), "example.org");
        for algorithm in KeyAlgorithm::ALL {
            let name = name(&format!("k-{algorithm}"));
            let made = keys.generate(&name, algorithm).await.unwrap();
            let found = open(dir.path(), "example.org")
                .load(&name)
                .await
                .unwrap()
                .unwrap();
            assert_eq!(found.public_key(), made.public_key(), "{algorithm}");
            let scheme = SignatureScheme::for_certificates(found.public_key().kind());
            let signature = found.sign(scheme, b"message").unwrap();
            assert!(
                made.public_key().verify(scheme, b"message", &signature).is_ok(),
                "{algorithm}"
            );
        }
        assert_eq!(keys.list().await.unwrap().len(), KeyAlgorithm::ALL.len());
        let left_over = keys.folder().join(".k.key.new-0123456789abcdef");
        fs::write(&left_over, b"").unwrap();
        assert_eq!(
            open(dir.path(), "example.org").list().await.unwrap().len(),
            KeyAlgorithm::ALL.len()
        );
        assert!(!left_over.exists());
    }

    #[tokio::test]
    async fn no_key_is_on_the_disk_in_the_clear() {
        let dir = tempfile::tempdir().unwrap();
        let keys = open(dir.path(), "example.org");
        keys.generate(&name("k"), KeyAlgorithm::EcP256).await.unwrap();
        let file = keys.folder().join("k.key");
        let bytes = fs::read(&file).unwrap();
        // The key's algorithm identifier stands in every PKCS#8 file.
        let p256 = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
        assert!(!bytes.windows(p256.len()).any(|window| window == p256));
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
    }

    #[tokio::test]
    async fn a_key_under_another_name_or_of_another_trust_domain_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let keys = open(dir.path(), "example.org");
        keys.generate(&name("a"), KeyAlgorithm::EcP256).await.unwrap();
        fs::copy(keys.folder().join("a.key"), keys.folder().join("b.key")).unwrap();
        assert!(matches!(
            keys.load(&name("b")).await,
            Err(KeyManagerError::Damaged { .. })
        ));
        let other = open(dir.path(), "example.net");
        assert!(matches!(
            other.load(&name("a")).await,
            Err(KeyManagerError::Damaged { .. })
        ));
    }

    #[tokio::test]
    async fn a_damaged_key_is_said_to_be_and_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let keys = open(dir.path(), "example.org");
        keys.generate(&name("a"), KeyAlgorithm::EcP256).await.unwrap();
        let file = keys.folder().join("a.key");
        let mut bytes = fs::read(&file).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&file, &bytes).unwrap();
        let again = open(dir.path(), "example.org");
        assert!(
            matches!(again.load(&name("a")).await, Err(KeyManagerError::Damaged { key, .. }) if key == name("a"))
        );
        assert!(matches!(
            again.generate(&name("a"), KeyAlgorithm::EcP256).await,
            Err(KeyManagerError::Exists(_))
        ));
        assert_eq!(fs::read(&file).unwrap(), bytes);
        // Whoever has the key in memory goes on.
        assert!(keys.load(&name("a")).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_folder_that_others_may_use_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let keys = open(dir.path(), "example.org");
        let seal = Arc::new(KeyFile::open(dir.path().join("seal.key")).unwrap());
        for mode in [0o750, 0o701, 0o777, 0o1700] {
            fs::set_permissions(keys.folder(), fs::Permissions::from_mode(mode)).unwrap();
            let seal: Arc<dyn Seal> = Arc::clone(&seal) as Arc<dyn Seal>;
            let refused = DiskKeys::open(keys.folder(), seal, "example.org".parse().unwrap());
            assert!(matches!(refused, Err(OpenError::Foreign { .. })), "{mode:o}");
        }
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(keys.folder(), &link).unwrap();
        let refused = DiskKeys::open(link, seal, "example.org".parse().unwrap());
        assert!(matches!(refused, Err(OpenError::NotAFolder(_))));
    }
}
