//! The walk over a log's frames that finds the first record that cannot be believed.

use muster_journal::{OpenError, ReadError, Reader};

use crate::{
    checkpoint::Checkpoint,
    frame::{self, Frame},
    merkle::{Hash, Tree},
    record::Link,
    verify::{Trust, Verified, VerifyError},
};

/// Where a log stands: what the writer goes on from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Tail {
    pub(crate) tree: Tree,
    /// The leaf hash of the last record.
    pub(crate) prev: Hash,
    /// How many records a checkpoint covers.
    pub(crate) covered: u64,
}

impl Default for Tail {
    fn default() -> Self {
        Self {
            tree: Tree::default(),
            prev: Hash::empty(),
            covered: 0,
        }
    }
}

pub(crate) struct Walk<'a> {
    tail: Tail,
    /// The number of the first record that is walked over. Not the first of the log where older files were put away; what they held is
    /// in the tree all the same.
    first: u64,
    /// Whether nothing was walked over yet: only the first frame of all may be an edge that nothing before it vouches for.
    begun: bool,
    /// Whose checkpoints count; without it only the chain is looked at.
    trust: Option<&'a Trust>,
    /// Checkpoints from elsewhere that the log must contain.
    expected: Vec<Checkpoint>,
    /// The record that names another predecessor than the one before it. Which of the two was changed shows only
    /// when the record after it vouches for it, or does not.
    suspect: Option<u64>,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(trust: Option<&'a Trust>) -> Self {
        let expected = trust.and_then(|t| t.known.clone()).into_iter().collect();
        Self {
            tail: Tail::default(),
            first: 0,
            begun: false,
            trust,
            expected,
            suspect: None,
        }
    }

    /// One more checkpoint that the log must contain.
    pub(crate) fn expect(&mut self, checkpoint: Checkpoint) {
        self.expected.push(checkpoint);
    }

    pub(crate) fn damaged(&self, source: ReadError) -> VerifyError {
        VerifyError::Damaged {
            index: self.tail.tree.size(),
            source,
        }
    }

    /// Walks over all that `records` holds, of a log whose first frame that is there has the position `first`.
    pub(crate) fn over(&mut self, first: u64, records: Reader) -> Result<(), VerifyError> {
        for record in records {
            let record = record.map_err(|error| match error {
                ReadError::Io { path, source } => VerifyError::Open(OpenError::Io { path, source }),
                error => self.damaged(error),
            })?;
            let lacks_beginning = !self.begun && record.position > 1;
            if lacks_beginning && !frame::is_edge(&record.payload) {
                return Err(VerifyError::Beginning);
            }
            self.step(&record.payload)?;
        }
        match self.begun || first == 1 {
            true => Ok(()),
            false => Err(VerifyError::Beginning),
        }
    }

    pub(crate) fn step(&mut self, payload: &[u8]) -> Result<(), VerifyError> {
        let begun = std::mem::replace(&mut self.begun, true);
        match Frame::parse(payload) {
            Some(Frame::Edge { tail, note }) => {
                match begun {
                    true => self.follows(&tail)?,
                    false => self.begin(tail),
                }
                let size = self.tail.tree.size();
                if !self.is_signed(note)? {
                    return Err(wrong(size, "the file before it ends otherwise than was signed"));
                }
                self.compare_known()
            }
            Some(Frame::Records(lines)) => lines
                .split_terminator('\n')
                .try_for_each(|line| self.record(line)),
            Some(Frame::Checkpoint { head, note }) => self.checkpoint(head, note),
            None => Err(wrong(self.tail.tree.size(), "its frame has no known form")),
        }
    }

    pub(crate) fn finish(self) -> Result<Tail, VerifyError> {
        if let Some(suspect) = self.suspect {
            return Err(not_vouched(suspect));
        }
        let records = self.tail.tree.size();
        if let Some(known) = self.expected.iter().find(|known| known.size > records) {
            return Err(VerifyError::Cut {
                records,
                known: known.size,
            });
        }
        match self.expected.iter().find(|known| known.size < self.first) {
            Some(known) => Err(VerifyError::Before {
                first: self.first,
                known: known.size,
            }),
            None => Ok(self.tail),
        }
    }

    pub(crate) fn verified(self) -> Result<Verified, VerifyError> {
        let first = self.first;
        let tail = self.finish()?;
        Ok(Verified {
            first,
            records: tail.tree.size(),
            root: tail.tree.root(),
            signed: tail.covered,
        })
    }

    fn record(&mut self, line: &str) -> Result<(), VerifyError> {
        let index = self.tail.tree.size();
        let link: Link = serde_json::from_str(line).map_err(|_| wrong(index, "it is not a record"))?;
        if link.index != index {
            // A record that was added bears the number of one before it, one after a removed record a later number.
            return Err(wrong(
                link.index.min(index),
                "the numbers do not follow each other",
            ));
        }
        let vouched = link.prev == self.tail.prev.to_hex();
        if let Some(suspect) = self.suspect {
            return Err(if vouched {
                not_vouched(suspect)
            } else {
                wrong(suspect, "neither the record before nor the one after fits it")
            });
        }
        if !vouched {
            self.suspect = Some(index);
        }
        self.tail.prev = Hash::leaf(line.as_bytes());
        self.tail.tree.push(self.tail.prev);
        if self.suspect.is_none() {
            self.compare_known()?;
        }
        Ok(())
    }

    fn checkpoint(&mut self, head: Hash, note: &str) -> Result<(), VerifyError> {
        let size = self.tail.tree.size();
        if let Some(suspect) = self.suspect {
            return Err(if head == self.tail.prev {
                not_vouched(suspect)
            } else {
                wrong(
                    suspect,
                    "neither the record before nor the checkpoint after fits it",
                )
            });
        }
        if !self.is_signed(note)? {
            return Err(if head == self.tail.prev {
                VerifyError::Rewritten {
                    from: self.tail.covered,
                    to: size,
                }
            } else {
                not_vouched(size)
            });
        }
        self.tail.covered = size;
        Ok(())
    }

    /// Whether a note signs the log as it stands here. Nobody is asked where only the chain is looked at.
    fn is_signed(&self, note: &str) -> Result<bool, VerifyError> {
        let Some(trust) = self.trust else { return Ok(true) };
        let size = self.tail.tree.size();
        let signed = Checkpoint::verify(note, &trust.origin, &trust.keys).map_err(|source| {
            VerifyError::Checkpoint {
                index: size.saturating_sub(1),
                source,
            }
        })?;
        if signed.size != size {
            return Err(wrong(
                signed.size.min(size),
                "the checkpoint after it covers another number of records",
            ));
        }
        Ok(signed.root == self.tail.tree.root())
    }

    fn begin(&mut self, edge: Tail) {
        self.first = edge.tree.size();
        self.tail = edge;
    }

    /// What a file begins with must be what the ones before it come to.
    fn follows(&self, edge: &Tail) -> Result<(), VerifyError> {
        let size = self.tail.tree.size();
        match self.suspect {
            Some(suspect) if edge.prev == self.tail.prev => Err(not_vouched(suspect)),
            Some(suspect) => Err(wrong(
                suspect,
                "neither the record before nor what follows it fits it",
            )),
            None if *edge == self.tail => Ok(()),
            None if edge.prev != self.tail.prev => Err(not_vouched(size)),
            None => Err(wrong(
                edge.tree.size().min(size),
                "a file begins where the one before does not end",
            )),
        }
    }

    fn compare_known(&self) -> Result<(), VerifyError> {
        let size = self.tail.tree.size();
        let rewritten = self
            .expected
            .iter()
            .any(|known| known.size == size && known.root != self.tail.tree.root());
        if rewritten {
            Err(VerifyError::Rewritten {
                from: self.tail.covered,
                to: size,
            })
        } else {
            Ok(())
        }
    }
}

/// What follows record number `follower` - 1 does not name it.
fn not_vouched(follower: u64) -> VerifyError {
    wrong(
        follower.saturating_sub(1),
        "what follows it was linked to other content",
    )
}

fn wrong(index: u64, why: &'static str) -> VerifyError {
    VerifyError::Record { index, why }
}
