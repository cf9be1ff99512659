//! A certificate and its key in files that somebody else renews.

use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_runtime::file;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tracing::{error, info};
use zeroize::Zeroizing;

use super::Door;
use super::certificate::WebCertificate;
use super::file_mark::FileMark;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(5);
/// The largest file.
const LARGEST: usize = 1 << 20;

/// Why the files can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateFilesError {
    /// One can't be read.
    #[error("reading {}", .0.display())]
    Read(PathBuf, #[source] io::Error),
    /// No certificate in it.
    #[error("{} holds no certificate chain in PEM", .0.display())]
    Chain(PathBuf),
    /// No key in it.
    #[error("{} holds no private key in PEM that can be used", .0.display())]
    Key(PathBuf),
    /// They do not belong together: perhaps one was replaced and the other will be.
    #[error("the key in {} is not that of the certificate in {}", key.display(), certificate.display())]
    Mismatch {
        /// The chain.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
    },
}

/// Shows what two files hold, and what they hold later.
pub(super) struct CertificateFiles {
    certificate: PathBuf,
    key: PathBuf,
    door: Door,
    shown: WebCertificate,
    seen: [Option<FileMark>; 2],
}

impl CertificateFiles {
    /// Reads the files for the first time.
    pub(super) fn open(
        certificate: PathBuf,
        key: PathBuf,
        door: Door,
        shown: WebCertificate,
    ) -> Result<Self, CertificateFilesError> {
        let seen = marks(&certificate, &key);
        shown.show(read(&certificate, &key)?);
        Ok(Self {
            certificate,
            key,
            door,
            shown,
            seen,
        })
    }

    /// Reads them anew when they change. What can't be used is reported, and what was shown stays.
    pub(super) async fn follow(mut self) -> Infallible {
        loop {
            tokio::time::sleep(LOOK).await;
            let (certificate, key, seen) = (self.certificate.clone(), self.key.clone(), self.seen);
            let looking = tokio::task::spawn_blocking(move || {
                let now = marks(&certificate, &key);
                (now != seen).then(|| (now, read(&certificate, &key)))
            });
            let Ok(Some((now, read))) = looking.await else {
                continue;
            };
            self.seen = now;
            match read {
                Ok(certificate) => {
                    self.shown.show(certificate);
                    info!(door = %self.door, file = %self.certificate.display(), "the door shows the new certificate");
                }
                Err(error) => {
                    error!(
                        door = %self.door,
                        error = &error as &dyn std::error::Error,
                        "the door's new certificate can't be used; the old one is shown"
                    );
                }
            }
        }
    }
}

fn marks(certificate: &Path, key: &Path) -> [Option<FileMark>; 2] {
    [FileMark::of(certificate), FileMark::of(key)]
}

fn read(certificate: &Path, key: &Path) -> Result<CertifiedKey, CertificateFilesError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes(certificate)?).collect();
    let chain = chain
        .ok()
        .filter(|chain| !chain.is_empty())
        .ok_or_else(|| CertificateFilesError::Chain(certificate.to_owned()))?;
    let unusable = || CertificateFilesError::Key(key.to_owned());
    let private = PrivateKeyDer::from_pem_slice(&bytes(key)?).map_err(|_| unusable())?;
    let signing = any_supported_type(&private).map_err(|_| unusable())?;
    let certified = CertifiedKey::new(chain, signing);
    certified
        .keys_match()
        .map_err(|_| CertificateFilesError::Mismatch {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
        })?;
    Ok(certified)
}

fn bytes(path: &Path) -> Result<Zeroizing<Vec<u8>>, CertificateFilesError> {
    let read = file::read(path, LARGEST).map(Zeroizing::new);
    read.map_err(|error| CertificateFilesError::Read(path.to_owned(), error))
}

#[cfg(test)]
mod tests {
    use nix::sys::stat::Mode;
    use rcgen::KeyPair;

    use super::*;

    #[test]
    fn what_stands_in_a_files_place_holds_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = (folder.path().join("chain.pem"), folder.path().join("key.pem"));
        let pair = KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        let chain = params.self_signed(&pair).unwrap().pem();
        // A blank line more is no part of it.
        let padded = |text: &str, length: usize| text.to_owned() + &" ".repeat(length - text.len());
        std::fs::write(&certificate, padded(&chain, LARGEST)).unwrap();
        std::fs::write(&key, pair.serialize_pem()).unwrap();
        read(&certificate, &key).unwrap();
        std::fs::write(&certificate, padded(&chain, LARGEST + 1)).unwrap();
        let refused = |error| matches!(error, CertificateFilesError::Read(path, _) if path == certificate);
        assert!(refused(read(&certificate, &key).unwrap_err()));
        std::fs::remove_file(&certificate).unwrap();
        nix::unistd::mkfifo(&certificate, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        assert!(refused(read(&certificate, &key).unwrap_err()));
        assert!(read(folder.path(), &key).is_err());
    }
}
