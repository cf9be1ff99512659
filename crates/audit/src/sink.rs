//! Where records go: a journal, or memory for tests of callers.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use muster_journal::{AppendError, Journal};

use crate::frame;

pub(crate) enum Sink {
    /// The journal, and the file beside it that always holds the newest checkpoint.
    Journal {
        journal: Journal,
        sidecar: PathBuf,
    },
    Memory(Memory),
}

impl Sink {
    /// Writes one frame; it is durable when this returns.
    pub(crate) fn append(&self, payload: Vec<u8>) -> Result<(), AppendError> {
        match self {
            Self::Journal { journal, .. } => journal.append(payload).wait().map(|_| ()),
            Self::Memory(memory) => memory.push(payload),
        }
    }

    /// How long the newest file is, in bytes.
    pub(crate) fn file_bytes(&self) -> u64 {
        match self {
            Self::Journal { journal, .. } => journal.generation_bytes(),
            Self::Memory(_) => 0,
        }
    }

    /// Begins a file, with this frame.
    pub(crate) fn begin_file(&self, edge: Vec<u8>) -> Result<(), AppendError> {
        match self {
            Self::Journal { journal, .. } => {
                journal.rotate().wait()?;
                journal.append(edge).wait().map(|_| ())
            }
            Self::Memory(_) => Ok(()),
        }
    }

    /// Puts the newest checkpoint where others read it. It is in the log already; this copy is for whoever
    /// compares (a cut log and an old copy must both be forged), so that a failure is reported and no more.
    pub(crate) fn publish(&self, note: &str) -> std::io::Result<()> {
        match self {
            Self::Journal { sidecar, .. } => replace(sidecar, note.as_bytes()),
            Self::Memory(_) => Ok(()),
        }
    }
}

fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let new = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o640)
        .open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

/// Frames in memory, and whether the next ones are refused.
#[derive(Clone, Default)]
pub(crate) struct Memory(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    frames: Vec<Vec<u8>>,
    full: bool,
}

impl Memory {
    fn push(&self, payload: Vec<u8>) -> Result<(), AppendError> {
        match self.0.lock() {
            Ok(mut kept) if !kept.full => {
                kept.frames.push(payload);
                Ok(())
            }
            _ => Err(AppendError::Full),
        }
    }

    #[cfg(test)]
    pub(crate) fn frames(&self) -> Vec<Vec<u8>> {
        self.0.lock().map(|kept| kept.frames.clone()).unwrap_or_default()
    }

    pub(crate) fn set_full(&self, full: bool) {
        if let Ok(mut kept) = self.0.lock() {
            kept.full = full;
        }
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        let Ok(kept) = self.0.lock() else {
            return Vec::new();
        };
        kept.frames
            .iter()
            .filter_map(|frame| frame::records(frame))
            .flatten()
            .map(str::to_owned)
            .collect()
    }
}
