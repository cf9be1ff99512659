use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Something acknowledged that is missing or wrong.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{file}: {what} at byte {offset}, where record {position} should be", file = file.display())]
pub struct Damage {
    /// The file.
    pub file: PathBuf,
    /// Where in it.
    pub offset: u64,
    /// The position of the record that should be there.
    pub position: u64,
    /// What is wrong with it.
    pub what: &'static str,
    /// The highest position that is known to have been written: a state that is at least there has lost nothing.
    pub written: u64,
}

/// Why a journal was not opened. Nothing on the disk was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or another handle of this one, holds the folder.
    #[error("{} is in use by another process", .0.display())]
    Locked(PathBuf),
    /// An acknowledged record is missing or wrong. Restore the folder from a backup, or move it away.
    #[error("the journal is damaged")]
    Damaged(#[from] Damage),
    /// Made by a newer version, or not a journal.
    #[error("{}: not a journal that this version can read", .0.display())]
    Foreign(PathBuf),
    /// The operating system refused.
    #[error("{}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Its answer.
        source: io::Error,
    },
}

impl OpenError {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            path: path.into(),
            source,
        }
    }

    /// Whether the disk was full: the caller may release a [`crate::Reserve`] and try again.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if crate::medium::is_full(source))
    }
}

/// Why a record is not durable.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// More waits for the disk than may. Later it may do.
    #[error("too much waits for the disk")]
    Busy,
    /// The disk is full; nothing of this record was written. When there is space again, appends go on by themselves.
    #[error("the disk is full")]
    Full,
    /// The record is longer than the journal takes, or empty.
    #[error("a record of {0} bytes is not taken")]
    Size(usize),
    /// No new generation was begun, and what is there goes on.
    #[error("no new file was begun: {0}")]
    Unbegun(Arc<str>),
    /// A write or sync failed, now or before: whether the record is on the disk is unknown, and nothing more is
    /// written. Only a new start can tell.
    #[error("the journal stopped after a failed write: {0}")]
    Poisoned(Arc<str>),
}

impl AppendError {
    /// Whether the same call may succeed later without a restart.
    pub fn may_retry(&self) -> bool {
        matches!(self, Self::Busy | Self::Full | Self::Unbegun(_))
    }
}

/// Why records could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The position is older than what is held.
    #[error("record {wanted} is no longer held, the first one is {first}")]
    Gone {
        /// What was asked for.
        wanted: u64,
        /// The first that is held.
        first: u64,
    },
    /// The bytes changed since the journal was opened.
    #[error("the journal is damaged")]
    Damaged(#[from] Damage),
    /// The operating system refused.
    #[error("{}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Its answer.
        source: io::Error,
    },
}
