use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// What the content of a file is known by: a new file has another inode, one that was written over another time or size. Of the times, that of the last change can't
/// be set back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct FileMark {
    device: u64,
    inode: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    length: u64,
}

impl FileMark {
    /// As the file is now; none: it can't be looked at.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let found = std::fs::metadata(path).ok()?;
        Some(Self {
            device: found.dev(),
            inode: found.ino(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
            length: found.len(),
        })
    }
}
