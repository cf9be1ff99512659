//! The certificate authorities of the Web PKI.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use muster_runtime::file;
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tracing::{info, warn};

use super::file_mark::FileMark;

/// Where systems keep them: Debian and Alpine, Red Hat, SUSE, the BSDs.
const PLACES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// The largest file.
const LARGEST: usize = 8 << 20;

/// Why there are none.
#[derive(Debug, thiserror::Error)]
pub enum WebRootsError {
    /// The file can't be read.
    #[error("reading {}", .0.display())]
    Read(PathBuf, #[source] io::Error),
    /// No PEM.
    #[error("{} is not PEM", .0.display())]
    Pem(PathBuf),
    /// Nothing in it.
    #[error("{} has no certificate authority that can be used", .0.display())]
    Empty(PathBuf),
}

/// The authorities in a file that was named, or else the system's: as the file has them when they are used, because systems replace it without a word. Clones share them.
#[derive(Clone, Debug)]
pub struct WebRoots {
    held: Arc<Mutex<Held>>,
}

#[derive(Debug)]
struct Held {
    file: Source,
    mark: Option<FileMark>,
    roots: Arc<RootCertStore>,
}

#[derive(Clone, Debug)]
enum Source {
    Named(PathBuf),
    System,
    Fixed,
}

impl Source {
    fn path(&self) -> Option<PathBuf> {
        match self {
            Self::Named(path) => Some(path.clone()),
            Self::System => PLACES.into_iter().map(PathBuf::from).find(|place| place.exists()),
            Self::Fixed => None,
        }
    }
}

impl WebRoots {
    /// Reads them for the first time. Without either file nobody of the Web PKI is believed, and a fetch says so.
    ///
    /// # Errors
    /// When a file that was named can't be used. The system's may be broken for reasons that are not ours to stop a server for.
    pub fn open(file: Option<&Path>) -> Result<Self, WebRootsError> {
        let source = file.map_or(Source::System, |file| Source::Named(file.to_owned()));
        let path = source.path();
        let mark = path.as_deref().and_then(FileMark::of);
        let roots = match (path.as_deref().map(read), &source) {
            (None, _) => RootCertStore::empty(),
            (Some(Err(error)), Source::System) => {
                warn!(
                    error = &error as &dyn std::error::Error,
                    "the system's certificate authorities can't be used; no https_web endpoint will be believed"
                );
                RootCertStore::empty()
            }
            (Some(read), _) => read?,
        };
        Ok(Self::of(source, mark, Arc::new(roots)))
    }

    /// As the file has them now. While it can't be used, those that were read last count.
    pub(crate) async fn current(&self) -> Arc<RootCertStore> {
        let own = self.clone();
        let looked = tokio::task::spawn_blocking(move || own.look()).await;
        looked.unwrap_or_else(|_| Arc::clone(&self.held().roots))
    }

    /// Whether each of those that were `used` counts now.
    pub(crate) async fn still(&self, used: &Arc<RootCertStore>) -> bool {
        let counting = self.current().await;
        Arc::ptr_eq(&counting, used) || used.roots.iter().all(|root| counting.roots.contains(root))
    }

    fn look(&self) -> Arc<RootCertStore> {
        let mut held = self.held();
        let Some(path) = held.file.path() else {
            return Arc::clone(&held.roots);
        };
        // Before the content: what changes meanwhile is read once more.
        let mark = FileMark::of(&path);
        if mark != held.mark {
            let read = read(&path);
            // What could not be read is read again; what is wrong in itself waits for a change.
            if !matches!(read, Err(WebRootsError::Read(..))) {
                held.mark = mark;
            }
            match read {
                Ok(roots) => {
                    info!(file = %path.display(), authorities = roots.len(), "the certificate authorities of the Web PKI were read anew");
                    held.roots = Arc::new(roots);
                }
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    warn!(
                        error,
                        "new certificate authorities can't be used; those before count"
                    );
                }
            }
        }
        Arc::clone(&held.roots)
    }

    fn of(file: Source, mark: Option<FileMark>, roots: Arc<RootCertStore>) -> Self {
        let held = Arc::new(Mutex::new(Held { file, mark, roots }));
        Self { held }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // Each change is one assignment: a panic elsewhere leaves it whole.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<Arc<RootCertStore>> for WebRoots {
    /// These, for good.
    fn from(roots: Arc<RootCertStore>) -> Self {
        Self::of(Source::Fixed, None, roots)
    }
}

fn read(path: &Path) -> Result<RootCertStore, WebRootsError> {
    let pem = file::read(path, LARGEST).map_err(|error| WebRootsError::Read(path.to_owned(), error))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|_| WebRootsError::Pem(path.to_owned()))?;
        // Systems carry old ones that nobody can use; they vouch for nothing.
        roots.add(certificate).ok();
    }
    if roots.is_empty() {
        return Err(WebRootsError::Empty(path.to_owned()));
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use nix::sys::stat::Mode;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

    use super::*;

    fn pem(count: usize) -> String {
        let one = || {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let key = KeyPair::generate().unwrap();
            params.self_signed(&key).unwrap().pem()
        };
        (0..count).map(|_| one()).collect()
    }

    #[tokio::test]
    async fn a_file_that_is_replaced_counts_from_the_next_use_on_and_a_broken_one_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("roots.pem");
        let replace = |text: &str| {
            let new = folder.path().join("new");
            std::fs::write(&new, text).unwrap();
            std::fs::rename(&new, &path).unwrap();
        };
        WebRoots::open(Some(&path)).unwrap_err();
        replace(&pem(1));
        let roots = WebRoots::open(Some(&path)).unwrap();
        assert_eq!(roots.current().await.len(), 1);
        replace(&pem(2));
        assert_eq!(roots.current().await.len(), 2);
        replace("nothing");
        assert_eq!(roots.current().await.len(), 2);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(roots.current().await.len(), 2);
        replace(&pem(3));
        assert_eq!(roots.current().await.len(), 3);
    }

    #[tokio::test]
    async fn what_is_no_file_of_certificates_holds_nobody_and_those_before_count() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("roots.pem");
        let content = pem(1);
        std::fs::write(&path, &content).unwrap();
        let roots = WebRoots::open(Some(&path)).unwrap();
        std::fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        assert_eq!(roots.current().await.len(), 1);
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert_eq!(roots.current().await.len(), 1);
        std::fs::remove_dir(&path).unwrap();
        let two = pem(2);
        let padded = |length: usize| two.clone() + &" ".repeat(length - two.len());
        std::fs::write(&path, padded(LARGEST + 1)).unwrap();
        assert_eq!(roots.current().await.len(), 1);
        std::fs::write(&path, padded(LARGEST)).unwrap();
        assert_eq!(roots.current().await.len(), 2);
    }
}
