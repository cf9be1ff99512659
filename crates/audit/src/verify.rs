//! Reading the log back: whether it is whole, and if not, which record is the first that is not.

use std::path::Path;

use muster_journal::{End, Journal, Options, ReadError};
use muster_pki::key::PublicKey;

use crate::{
    checkpoint::{Checkpoint, CheckpointError, is_origin},
    frame::{self, Frame},
    merkle::Hash,
    walk::{Tail, Walk},
};

/// The file beside the log that holds its newest checkpoint.
pub(crate) const SIDECAR: &str = "checkpoint";

/// What a verifier goes by: nothing of it comes from the log itself.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// The log's name.
    pub origin: String,
    /// The keys that may have signed its checkpoints.
    pub keys: Vec<PublicKey>,
    /// A checkpoint that was seen earlier, or by somebody else. Only this shows that a tail was cut off, or that
    /// the whole log was replaced by one made with a stolen key.
    pub known: Option<Checkpoint>,
}

/// A log that was found whole.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verified {
    /// The number of the first record that is there: not 0 where older files were put away, or taken away. That nobody but the log's
    /// keepers did so is for the caller to know. The root covers those records all the same.
    pub first: u64,
    /// How many records it has, with those that were put away.
    pub records: u64,
    /// The root over them.
    pub root: Hash,
    /// How many of them, from number 0 on, a signed checkpoint covers.
    pub signed: u64,
}

/// The first thing that is wrong with a log.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A record was changed, removed, added or moved: it does not follow from the one before, or the one after does
    /// not follow from it.
    #[error("record {index} is not the one that was written: {why}")]
    Record {
        /// The first record that cannot be believed.
        index: u64,
        /// What shows it.
        why: &'static str,
    },
    /// The frame that should hold a record is not readable.
    #[error("record {index} is damaged")]
    Damaged {
        /// The first record that cannot be read.
        index: u64,
        /// What the journal found.
        source: ReadError,
    },
    /// A checkpoint cannot be believed.
    #[error("the checkpoint after record {index}")]
    Checkpoint {
        /// How many records stand before it.
        index: u64,
        /// Why.
        source: CheckpointError,
    },
    /// The copy of the newest checkpoint beside the log cannot be believed.
    #[error("the newest checkpoint, beside the log")]
    Beside {
        /// Why.
        source: CheckpointError,
    },
    /// Records between two checkpoints were rewritten together with all that followed.
    #[error("the records {from} to {to} are not those that were signed")]
    Rewritten {
        /// The first that may be wrong.
        from: u64,
        /// One past the last.
        to: u64,
    },
    /// The first file that is there does not say where the log stood before it.
    #[error("the log's first file does not say what stood before it: put the file before it back")]
    Beginning,
    /// The files that a known checkpoint covers were put away, so that nothing can be compared with it.
    #[error("the log begins with record {first}, the known checkpoint covers {known}")]
    Before {
        /// The first record that is there.
        first: u64,
        /// How many the checkpoint covers.
        known: u64,
    },
    /// Records that a known checkpoint covers are gone.
    #[error("the log ends at record {records}, a known checkpoint covers {known}")]
    Cut {
        /// How many are left.
        records: u64,
        /// How many there were.
        known: u64,
    },
    /// The log could not be opened for reading.
    #[error("opening the audit log")]
    Open(#[from] muster_journal::OpenError),
}

impl VerifyError {
    /// The number of the first record that cannot be believed, if it can be told; records are counted from 0.
    pub fn first(&self) -> Option<u64> {
        match self {
            Self::Record { index, .. } | Self::Damaged { index, .. } | Self::Checkpoint { index, .. } => {
                Some(*index)
            }
            Self::Rewritten { from, .. } => Some(*from),
            Self::Cut { records, .. } => Some(*records),
            Self::Beside { .. } | Self::Beginning | Self::Before { .. } | Self::Open(_) => None,
        }
    }
}

/// The journal's options for a log: a full batch of full records is below 16 MiB.
pub(crate) fn options() -> Options {
    Options {
        newest_only: true,
        ..Options::default()
    }
}

/// Where an open log stands.
pub(crate) struct Replayed {
    pub(crate) tail: Tail,
    /// Whether the newest file says where the log stood before it, as far as it must.
    pub(crate) newest_has_edge: bool,
}

/// Reads the newest file of an open log and checks its chain, and the signature with which the file begins: at start the daemon asks whether it can
/// go on; who could have rewritten the log with its keys at hand could sign too. The older files, which only grow in number, are [`verify`]'s.
pub(crate) fn replay(journal: &Journal, origin: &str, key: &PublicKey) -> Result<Replayed, VerifyError> {
    let files = journal.generations();
    // A stop, or a full disk, between the beginning of a file and its first frame leaves one that does not say it.
    let edge_of = |first: &u64| {
        let frame = journal.read(*first).ok()?.next()?.ok()?.payload;
        frame::is_edge(&frame).then_some((*first, frame))
    };
    let found = files.iter().rev().find_map(edge_of);
    if let Some((_, frame)) = &found {
        begins_as_signed(frame, origin, key)?;
    }
    let from = found.map_or(journal.first(), |(first, _)| first);
    let mut walk = Walk::new(None);
    let records = journal.read(from);
    walk.over(from, records.map_err(|source| walk.damaged(source))?)?;
    let tail = walk.finish()?;
    let newest = files.last().copied().unwrap_or(1);
    Ok(Replayed {
        tail,
        newest_has_edge: newest == 1 || newest == from,
    })
}

/// Whether the state with which a file begins is what its note signs: finds a mistake, and no forger, who can leave the signature out. A log goes on after
/// its key or its name was replaced, so that a note of others tells nothing here.
fn begins_as_signed(frame: &[u8], origin: &str, key: &PublicKey) -> Result<(), VerifyError> {
    let Some(Frame::Edge { tail, note }) = Frame::parse(frame) else {
        return Ok(());
    };
    let index = tail.tree.size();
    match Checkpoint::verify(note, origin, std::slice::from_ref(key)) {
        Ok(signed) if (signed.size, signed.root) == (index, tail.tree.root()) => Ok(()),
        Ok(_) => Err(VerifyError::Record {
            index,
            why: "the file before it ends otherwise than was signed",
        }),
        Err(CheckpointError::Unsigned | CheckpointError::Origin) => {
            tracing::warn!(
                "the newest file of the audit log begins with a checkpoint of another key, or of another name, than the log has now"
            );
            Ok(())
        }
        Err(source) => Err(VerifyError::Checkpoint { index, source }),
    }
}

/// Checks every record, link, root and signature of the log in `dir`. It takes no lock and changes nothing, so the log
/// may be in use; a batch that is being written does not count yet.
///
/// # Errors
/// Names the first record that cannot be believed.
pub fn verify(dir: &Path, trust: &Trust) -> Result<Verified, VerifyError> {
    let mut walk = Walk::new(Some(trust));
    if let Ok(note) = std::fs::read_to_string(dir.join(SIDECAR)) {
        let beside = Checkpoint::verify(&note, &trust.origin, &trust.keys)
            .map_err(|source| VerifyError::Beside { source })?;
        walk.expect(beside);
    }
    through(dir, walk)
}

/// The same without a key: every record and link is checked and no signature, so that this finds damage and clumsy hands, and nobody who could write the whole log anew.
///
/// # Errors
/// Names the first record that cannot be believed.
pub fn verify_chain(dir: &Path) -> Result<Verified, VerifyError> {
    through(dir, Walk::new(None))
}

/// The name that the newest checkpoint beside the log gives it: what the log says of itself, to be compared with what one expects.
pub fn origin_beside(dir: &Path) -> Option<String> {
    let note = std::fs::read_to_string(dir.join(SIDECAR)).ok()?;
    let origin = note.lines().next()?;
    is_origin(origin).then(|| origin.to_owned())
}

fn through(dir: &Path, mut walk: Walk<'_>) -> Result<Verified, VerifyError> {
    let scan = muster_journal::scan(dir, 1)?;
    walk.over(scan.first, scan.records)?;
    if let End::Damaged(damage) = scan.end {
        return Err(walk.damaged(damage.into()));
    }
    walk.verified()
}
