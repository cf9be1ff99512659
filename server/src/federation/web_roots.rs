//! The certificate authorities of the Web PKI.

use std::io;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tracing::warn;

/// Where systems keep them: Debian and Alpine, Red Hat, SUSE, the BSDs.
const PLACES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// The largest file.
const LARGEST: u64 = 8 << 20;

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

/// The authorities in `file`, or else the system's. Without either nobody of the Web PKI is believed, and a fetch says so.
///
/// # Errors
/// When a file that was named can't be used. The system's may be broken for reasons that are not ours to stop a server for.
pub fn web_roots(file: Option<&Path>) -> Result<RootCertStore, WebRootsError> {
    let system = || PLACES.into_iter().map(Path::new).find(|place| place.exists());
    match (file, system()) {
        (Some(file), _) => read(file),
        (None, Some(file)) => Ok(read(file).unwrap_or_else(|error| {
            warn!(
                error = &error as &dyn std::error::Error,
                "the system's certificate authorities can't be used; no https_web endpoint will be believed"
            );
            RootCertStore::empty()
        })),
        (None, None) => Ok(RootCertStore::empty()),
    }
}

fn read(path: &Path) -> Result<RootCertStore, WebRootsError> {
    let failed = |error| WebRootsError::Read(path.to_owned(), error);
    let length = std::fs::metadata(path).map_err(failed)?.len();
    if length > LARGEST {
        return Err(failed(io::Error::other("it is larger than 8 MiB")));
    }
    let pem = std::fs::read(path).map_err(failed)?;
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
