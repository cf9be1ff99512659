//! A certificate and its key in files that somebody else renews.

use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

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
const LARGEST: u64 = 1 << 20;

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
        let seen = [FileMark::of(&certificate), FileMark::of(&key)];
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
            let now = [FileMark::of(&self.certificate), FileMark::of(&self.key)];
            if now == self.seen {
                continue;
            }
            self.seen = now;
            match read(&self.certificate, &self.key) {
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
    let failed = |error| CertificateFilesError::Read(path.to_owned(), error);
    if std::fs::metadata(path).map_err(failed)?.len() > LARGEST {
        return Err(failed(io::Error::other("it is larger than 1 MiB")));
    }
    std::fs::read(path).map(Zeroizing::new).map_err(failed)
}
