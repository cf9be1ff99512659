//! The kinds of frame in the log's journal: a batch of records, a checkpoint over all before it, and the edge with which a file begins.
//!
//! One batch is one frame, so that a batch is there wholly or not at all and a write that failed cannot leave a
//! record whose predecessor is missing.

use crate::{
    merkle::{Hash, Tree},
    walk::Tail,
};

const RECORDS: u8 = 1;
const CHECKPOINT: u8 = 2;
const EDGE: u8 = 3;

pub(crate) enum Frame<'a> {
    /// Lines, each closed by a line break that is not part of the leaf.
    Records(&'a str),
    /// The leaf hash of the last record before it, and a signed note. The hash is only there to name the record
    /// when that one was changed; what convinces is the note.
    Checkpoint { head: Hash, note: &'a str },
    /// Where the log stood, and the signed checkpoint over all of it: from here on it can be read without what lies before.
    Edge { tail: Tail, note: &'a str },
}

impl<'a> Frame<'a> {
    /// What a payload holds; nothing when it is no frame of ours.
    pub(crate) fn parse(payload: &'a [u8]) -> Option<Self> {
        let (kind, body) = payload.split_first()?;
        match *kind {
            RECORDS => std::str::from_utf8(body)
                .ok()
                .filter(|b| b.ends_with('\n'))
                .map(Self::Records),
            CHECKPOINT => {
                let (head, note) = body.split_first_chunk()?;
                Some(Self::Checkpoint {
                    head: Hash(*head),
                    note: std::str::from_utf8(note).ok()?,
                })
            }
            EDGE => edge_of(body),
            _ => None,
        }
    }
}

/// The frame of a batch that is being filled.
#[derive(Default)]
pub(crate) struct Batch(Vec<u8>);

impl Batch {
    pub(crate) fn push(&mut self, line: &str) {
        if self.0.is_empty() {
            self.0.push(RECORDS);
        }
        self.0.extend_from_slice(line.as_bytes());
        self.0.push(b'\n');
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn into_payload(self) -> Vec<u8> {
        self.0
    }
}

pub(crate) fn checkpoint(head: Hash, note: &str) -> Vec<u8> {
    let mut payload = vec![CHECKPOINT];
    payload.extend_from_slice(&head.0);
    payload.extend_from_slice(note.as_bytes());
    payload
}

/// The frame that says where the log stands: its size, the last leaf's hash, the tree's edge, and the checkpoint over that.
pub(crate) fn edge(tail: &Tail, note: &str) -> Vec<u8> {
    let mut payload = vec![EDGE];
    payload.extend_from_slice(&tail.tree.size().to_le_bytes());
    payload.extend_from_slice(&tail.prev.0);
    let peaks = tail.tree.peaks().iter();
    payload.extend(peaks.flat_map(|peak| peak.0));
    payload.extend_from_slice(note.as_bytes());
    payload
}

fn edge_of(body: &[u8]) -> Option<Frame<'_>> {
    let (size, body) = body.split_first_chunk()?;
    let (prev, body) = body.split_first_chunk()?;
    let size = u64::from_le_bytes(*size);
    let peaks = size.count_ones() as usize * size_of::<Hash>();
    let (peaks, note) = body.split_at_checked(peaks)?;
    let (peaks, _) = peaks.as_chunks();
    let tree = Tree::from_edge(size, peaks.iter().copied().map(Hash).collect())?;
    let tail = Tail {
        tree,
        prev: Hash(*prev),
        covered: size,
    };
    let note = std::str::from_utf8(note).ok()?;
    Some(Frame::Edge { tail, note })
}

/// Whether a payload is an edge.
pub(crate) fn is_edge(payload: &[u8]) -> bool {
    matches!(Frame::parse(payload), Some(Frame::Edge { .. }))
}

/// The lines of a payload that is a batch.
pub(crate) fn records(payload: &[u8]) -> Option<impl Iterator<Item = &str>> {
    match Frame::parse(payload)? {
        Frame::Records(lines) => Some(lines.split_terminator('\n')),
        Frame::Checkpoint { .. } | Frame::Edge { .. } => None,
    }
}
