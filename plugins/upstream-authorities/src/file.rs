//! Files that configuration names, read whole and within a bound.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use muster_plugin_api::UpstreamError;
use muster_runtime::file;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use zeroize::Zeroizing;

/// Longer than any chain, key or token that makes sense; a bundle of a large PKI has some hundred KiB.
const MOST_BYTES: usize = 4 << 20;
/// Longer than any key or token.
const MOST_BYTES_OF_SECRET: usize = 64 << 10;
/// The most certificates in one file.
const MOST_CERTIFICATES: usize = 10_000;

/// A file that anybody may know.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, UpstreamError> {
    file::read(path, MOST_BYTES).map_err(|source| unreadable(path, source))
}

/// A file with a secret: everybody else may not read or change it. Its bytes are zeroed when they go.
pub(crate) fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, UpstreamError> {
    let file = file::open(path).map_err(|source| unreadable(path, source))?;
    let mode = file.metadata().map_err(|source| unreadable(path, source))?.mode() & 0o7777;
    if mode & 0o007 != 0 {
        let why = format!("its mode is {mode:04o}; others may not read or change a secret: chmod o= it");
        return Err(unusable(path, why));
    }
    let mut bytes = Zeroizing::new(Vec::new());
    file::read_open(&file, MOST_BYTES_OF_SECRET, &mut bytes).map_err(|source| unreadable(path, source))?;
    Ok(bytes)
}

/// A secret that is one line of text, such as a token; the line's end is no part of it.
pub(crate) fn read_token(path: &Path) -> Result<Zeroizing<String>, UpstreamError> {
    let bytes = read_secret(path)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| unusable(path, "it is no text"))?;
    let text = text.trim();
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(unusable(path, "it does not hold exactly one line"));
    }
    Ok(Zeroizing::new(text.to_owned()))
}

/// The certificates of a PEM file, in order; other blocks are skipped, as a file with a key beside its certificate has one.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, UpstreamError> {
    let pem = read(path)?;
    let read = CertificateDer::pem_slice_iter(&pem)
        .take(MOST_CERTIFICATES)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unusable(path, error.to_string()))?;
    if read.is_empty() {
        return Err(unusable(path, "there is no certificate in it (PEM, RFC 7468)"));
    }
    Ok(read)
}

fn unreadable(path: &Path, source: io::Error) -> UpstreamError {
    if source.kind() == io::ErrorKind::FileTooLarge {
        return unusable(path, source);
    }
    UpstreamError::unavailable(format!("reading {}", path.display()), source)
}

pub(crate) fn unusable(
    path: &Path,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> UpstreamError {
    UpstreamError::unusable(format!("{} can't be used", path.display()), source)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_secret_that_others_may_read_is_refused_and_one_line_is_what_it_holds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "s.abc\n").unwrap();
        let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        mode(0o644);
        let refused = read_token(&path).unwrap_err();
        assert!(matches!(refused, UpstreamError::Unusable { .. }), "{refused}");
        mode(0o640);
        assert_eq!(read_token(&path).unwrap().as_str(), "s.abc");
        for bad in ["", "\n", "two\nlines\n"] {
            std::fs::write(&path, bad).unwrap();
            assert!(read_token(&path).is_err(), "{bad:?}");
        }
    }
}
