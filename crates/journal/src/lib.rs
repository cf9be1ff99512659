//! An append-only journal of framed records: what was acknowledged is on the disk, and damage is noticed.
//!
//! append ─queue→ writer thread ─one write, one fdatasync for all that wait→ generation file ─→ [`Pending`] resolves
//!
//! It lies under the server's store, the audit log and the agent's durable state. Each record has a *position*
//! (1, 2, 3, …, without gaps); each frame carries its length, a CRC32C and that position.
//! A *generation* is one file; [`Journal::rotate`] begins the next and [`Journal::drop_before`] forgets old ones.
//! A [`snapshot`] beside it holds a whole state at a position, so that old generations can go.
//!
//! Trusted: that `fdatasync` means what it says. Not trusted: that bytes stay what they were. Opening reads
//! everything, or with [`Options::newest_only`] the newest generation; a torn tail (bytes that were never acknowledged)
//! is cut, anything else that is wrong is reported and never skipped. After a failed write or sync nothing more is
//! written: the kernel may have dropped the pages and would report success the next time. Begin at [`Journal::open`].

mod error;
mod frame;
mod generation;
mod lock;
mod medium;
mod pending;
mod reader;
mod reserve;
pub mod snapshot;
mod witness;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use error::{AppendError, Damage, OpenError, ReadError};
pub use lock::FolderLock;
pub use pending::Pending;
pub use reader::{End, Reader, Record, Scan, scan};
pub use reserve::Reserve;
pub use witness::Witness;

use writer::Writer;

/// The journal of one folder. Cheap to clone; the last handle that goes waits for what is queued.
#[derive(Clone)]
pub struct Journal {
    writer: Arc<Writer>,
}

/// What a journal may use.
#[derive(Clone, Debug)]
pub struct Options {
    /// The longest record; longer ones are refused.
    pub max_record: usize,
    /// How far ahead space is taken: an append inside it cannot meet a full disk.
    pub extend_by: u64,
    /// How many bytes of records may wait for the disk; past it, [`AppendError::Busy`].
    pub max_queued_bytes: usize,
    /// Opening reads the newest generation alone and takes the others for what their names say: for a journal that is kept for
    /// good, and would take ever longer to open. What is wrong with the others, also that one is missing between two, is met
    /// where they are read, and by [`scan`].
    pub newest_only: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_record: 16 << 20,
            extend_by: 4 << 20,
            max_queued_bytes: 64 << 20,
            newest_only: false,
        }
    }
}

impl Options {
    /// For state of a few kilobytes, such as an agent's.
    pub fn small() -> Self {
        Self {
            max_record: 1 << 20,
            extend_by: 64 << 10,
            max_queued_bytes: 4 << 20,
            newest_only: false,
        }
    }
}

/// A journal that was opened, and what opening found.
#[derive(Debug)]
pub struct Opened {
    /// The journal, ready for appends.
    pub journal: Journal,
    /// The torn tail that was cut, if there was one. Nothing in it had been acknowledged.
    pub cut: Option<Cut>,
}

/// A torn tail: the bytes of a batch that was being written when the machine stopped.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cut {
    /// The file it was cut from.
    pub file: PathBuf,
    /// Where the file's sound part ends.
    pub offset: u64,
    /// The position that the first lost record would have had.
    pub position: u64,
}

impl Journal {
    /// Opens the journal of `dir`, making folder (0700) and first generation (0600) when there is none.
    ///
    /// Every frame is checked, of every generation unless the options say otherwise. The folder stays locked until the last
    /// handle is gone.
    ///
    /// # Errors
    /// [`OpenError::Locked`] when somebody has the folder open, [`OpenError::Damaged`] when something acknowledged
    /// is missing or wrong. Nothing is changed on the disk then.
    pub fn open(dir: &Path, options: Options) -> Result<Opened, OpenError> {
        Self::open_from(dir, options, 1)
    }

    /// As [`Journal::open`], but a folder without a generation begins at `first` (for a journal that is rebuilt
    /// beside a state that is further on).
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn open_from(dir: &Path, options: Options, first: u64) -> Result<Opened, OpenError> {
        let (writer, cut) = Writer::open(dir, options, first.max(1))?;
        Ok(Opened {
            journal: Self {
                writer: Arc::new(writer),
            },
            cut,
        })
    }

    /// Queues one record. It is durable when the answer resolves to its position; dropping the answer does not
    /// take the record back. Records are written in the order of the calls.
    pub fn append(&self, record: Vec<u8>) -> Pending {
        self.writer.append(record)
    }

    /// The position of the first record that is still held (one past [`Journal::last`] when none is).
    pub fn first(&self) -> u64 {
        self.writer.first()
    }

    /// The position of the last durable record; one below [`Journal::first`] when there is none.
    pub fn last(&self) -> u64 {
        self.writer.last()
    }

    /// The positions at which generations begin, oldest first. The last one may hold nothing yet.
    pub fn generations(&self) -> Vec<u64> {
        self.writer.generations()
    }

    /// How many bytes of frames the current generation holds.
    pub fn generation_bytes(&self) -> u64 {
        self.writer.generation_bytes()
    }

    /// Reads the durable records from position `from` on, up to the last one at the time of the call.
    ///
    /// # Errors
    /// [`ReadError::Gone`] when `from` was dropped.
    pub fn read(&self, from: u64) -> Result<Reader, ReadError> {
        self.writer.read(from)
    }

    /// Begins a new generation after what was queued before this call. Resolves to the last position of the old one.
    pub fn rotate(&self) -> Pending {
        self.writer.rotate()
    }

    /// Forgets the generations whose records are all below `position`; the current one always stays.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn drop_before(&self, position: u64) -> Result<usize, ReadError> {
        self.writer.drop_before(position)
    }

    /// Why nothing can be written any more, if that is so: the process should end and be started again.
    pub fn poisoned(&self) -> Option<String> {
        self.writer.poisoned()
    }

    /// Whether `dir` holds any generation.
    pub fn exists(dir: &Path) -> bool {
        generation::list(dir).is_ok_and(|found| !found.is_empty())
    }
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal")
            .field("first", &self.first())
            .field("last", &self.last())
            .finish()
    }
}

#[cfg(test)]
mod tests;
