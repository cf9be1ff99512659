//! Files that an operator names, and that somebody replaces while the daemon runs.
//!
//! Whatever stands in such a file's place by then: a FIFO holds nobody, a device is not read, and no file is read past its bound.
//! Links are followed, because certificates that others renew are reached by links.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix::fcntl::OFlag;

/// Opens the regular file at `path` for reading, at once.
///
/// # Errors
/// When it can't be opened, or is no regular file.
pub fn open(path: &Path) -> io::Result<File> {
    // O_NONBLOCK: to open a FIFO would wait for somebody who writes. O_NOCTTY: no terminal becomes ours. O_CLOEXEC is set by the standard library.
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let mut options = OpenOptions::new();
    let file = options.read(true).custom_flags(flags.bits()).open(path)?;
    // What was opened is looked at, not the path: that one may lead elsewhere by now.
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is no regular file")),
    }
}

/// The content of the regular file at `path`, which has at most `most` bytes. It may wait for the disk; tasks call [`read_aside`].
///
/// # Errors
/// When it can't be read or is no regular file; [`io::ErrorKind::FileTooLarge`] when it has more.
pub fn read(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    read_open(&open(path)?, most, &mut content)?;
    Ok(content)
}

/// Puts the content of a file that [`open`] gave behind `content`: for whoever looks at more of it than that, or wipes what
/// was read also after an error.
///
/// # Errors
/// As [`read`].
pub fn read_open(file: &File, most: usize, content: &mut Vec<u8>) -> io::Result<()> {
    /// The least room for which the standard library does not read into a buffer of its own first.
    const SPARE: usize = 64;
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    let length = usize::try_from(file.metadata()?.len().min(limit)).unwrap_or(most);
    // With room for everything: it may be a secret, and a buffer that grows leaves copies behind.
    content.reserve(length.saturating_add(SPARE));
    // The length is no bound: the file may be growing.
    let read = file.take(limit).read_to_end(content)?;
    if read > most {
        let text = format!("it has more than {most} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    Ok(())
}

/// As [`read`], on a thread that may wait for the disk.
///
/// # Errors
/// As [`read`].
pub async fn read_aside(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    let path = path.to_owned();
    let reading = tokio::task::spawn_blocking(move || read(&path, most));
    reading.await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

#[cfg(test)]
mod tests {
    use nix::sys::stat::Mode;

    use super::*;

    #[test]
    fn a_file_is_read_to_its_bound_and_through_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("file"), folder.path().join("link"));
        std::fs::write(&path, "12345").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        for path in [&path, &link] {
            assert_eq!(read(path, 5).unwrap(), b"12345");
            assert_eq!(read(path, usize::MAX).unwrap(), b"12345");
            let refused = read(path, 4).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::FileTooLarge);
            assert_eq!(refused.to_string(), "it has more than 4 bytes");
        }
        std::fs::write(&path, "").unwrap();
        assert_eq!(read(&path, 0).unwrap(), b"");
    }

    #[tokio::test]
    async fn what_stands_in_a_files_place_holds_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let (fifo, link) = (folder.path().join("fifo"), folder.path().join("link"));
        nix::unistd::mkfifo(&fifo, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        std::os::unix::fs::symlink(&fifo, &link).unwrap();
        for path in [&fifo, &link, folder.path(), Path::new("/dev/zero")] {
            let refused = read_aside(path, 1_000).await.unwrap_err();
            assert_eq!(refused.to_string(), "it is no regular file", "{}", path.display());
        }
        let none = read_aside(&folder.path().join("none"), 1).await.unwrap_err();
        assert_eq!(none.kind(), io::ErrorKind::NotFound);
    }
}
