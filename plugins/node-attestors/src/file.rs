//! Small files that others write.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The content of the file at `path`, which must have at most `most` bytes: a device or a wrong file is not read to its end.
pub(crate) fn read(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    // With room for everything: what is read may be a secret, and a growing buffer leaves copies behind.
    let mut content = Vec::with_capacity(most.min(64 * 1024) + 1);
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path)?.take(limit).read_to_end(&mut content)?;
    if content.len() > most {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_to_its_bound() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "12345").unwrap();
        assert_eq!(read(&path, 5).unwrap(), b"12345");
        assert_eq!(read(&path, 4).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert!(read(Path::new("/dev/zero"), 1000).is_err());
    }
}
