use std::fs::File;
use std::path::Path;

use crate::Cut;
use crate::error::{Damage, OpenError, ReadError};
use crate::generation::{self, Frames, Generation};

/// One record and its place.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Record {
    /// 1 for the first record ever, then without gaps.
    pub position: u64,
    /// What was appended.
    pub payload: Vec<u8>,
}

/// The records from one position to another, in order. Each frame is checked again while it is read.
#[derive(Debug)]
pub struct Reader {
    generations: std::vec::IntoIter<Generation>,
    current: Option<(Generation, Frames)>,
    next: u64,
    last: u64,
}

/// A folder that was looked at without being opened or locked, also while another process writes to it.
#[derive(Debug)]
pub struct Scan {
    /// The position of the first record that is held, or would be.
    pub first: u64,
    /// The sound records from the wanted position to the end.
    pub records: Reader,
    /// What the end is like.
    pub end: End,
}

/// How the records of a folder end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum End {
    /// With the last record.
    Clean,
    /// With bytes that were never acknowledged; on a live journal, with a batch that is being written.
    Torn(Cut),
    /// With something acknowledged that is missing or wrong.
    Damaged(Damage),
}

/// Reads the folder `dir` from position `from` on (or from the first that is held, if that is later), changing nothing.
///
/// # Errors
/// When a file cannot be read or is not a journal's. Damage is no error here, it is an [`End`].
pub fn scan(dir: &Path, from: u64) -> Result<Scan, OpenError> {
    let scanned = generation::scan_all(dir)?;
    let first = scanned
        .generations
        .first()
        .map_or(1, |generation| generation.first);
    let last = scanned.generations.last().map_or(0, Generation::last);
    Ok(Scan {
        first,
        records: Reader::new(scanned.generations, from.max(first), last),
        end: scanned.end,
    })
}

impl Reader {
    pub(crate) fn new(generations: Vec<Generation>, from: u64, last: u64) -> Self {
        let wanted: Vec<_> = generations
            .into_iter()
            .filter(|generation| generation.last >= from)
            .collect();
        Self {
            generations: wanted.into_iter(),
            current: None,
            next: from,
            last,
        }
    }

    fn advance(&mut self) -> Result<Option<Record>, ReadError> {
        while self.next <= self.last {
            let Some((generation, frames)) = &mut self.current else {
                let Some(generation) = self.generations.next() else {
                    return Ok(None);
                };
                let frames = begin(&generation)?;
                self.current = Some((generation, frames));
                continue;
            };
            let (position, offset) = (frames.position, frames.offset);
            if position > generation.last {
                self.current = None;
                continue;
            }
            let io = |source| ReadError::Io {
                path: generation.path.clone(),
                source,
            };
            let Some(payload) = frames.next().map_err(io)? else {
                let (file, what) = (generation.path.clone(), "the record is not as it was written");
                return Err(Damage {
                    file,
                    offset,
                    position,
                    what,
                    written: 0,
                }
                .into());
            };
            if position >= self.next {
                self.next = position + 1;
                return Ok(Some(Record { position, payload }));
            }
        }
        Ok(None)
    }
}

fn begin(generation: &Generation) -> Result<Frames, ReadError> {
    let io = |source| ReadError::Io {
        path: generation.path.clone(),
        source,
    };
    let file = File::open(&generation.path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    Frames::begin(file, length, generation.first)
        .map_err(io)?
        .ok_or_else(|| {
            let (file, what) = (generation.path.clone(), "the file's head is damaged");
            Damage {
                file,
                offset: 0,
                position: generation.first,
                what,
                written: 0,
            }
            .into()
        })
}

impl Iterator for Reader {
    type Item = Result<Record, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.advance().transpose();
        if matches!(item, Some(Err(_))) {
            self.last = 0; // nothing behind an unsound record is handed out
        }
        item
    }
}

impl std::fmt::Debug for Frames {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Frames")
            .field("position", &self.position)
            .field("offset", &self.offset)
            .finish()
    }
}
