//! The embedded store: a journal that acknowledges, and sled behind it.
//!
//! commit ─judge→ journal frame, fdatasynced (the acknowledgement) ─→ index ─→ write-behind ─→ sled, checkpoints
//!
//! sled 0.34 syncs nothing by itself and does not notice damage, so it is never what an acknowledgement rests on.
//! Each of its records carries a checksum; each frame says what count and digest the touched trees have after it.
//! At start sled is read once, the journal replayed over it, and the result compared with the newest frame. If that
//! fails, the state is rebuilt from the newest snapshot and the journal, and the damaged sled is moved aside.
//! Snapshots are written when the journal begins a new generation; two are kept, with the generations behind them.

mod base;
mod behind;
mod frame;
mod open;
mod tables;
#[cfg(test)]
mod tests;
mod whole;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use muster_identity::{Revision, StoreId};
use muster_journal::{AppendError, Journal, OpenError as JournalError};

use super::index::Index;
use super::{Change, Committed, Record, Store, StoreError, size};
use behind::Behind;

pub use open::open;

/// How much is written when. The defaults are for production; tests make them small.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// sled is brought up to the journal when this many bytes wait for it.
    pub checkpoint_bytes: usize,
    /// Or when something has waited this long.
    pub checkpoint_after: std::time::Duration,
    /// The journal begins a new generation, and a snapshot is written, past this many bytes (and twice the state).
    pub generation_bytes: u64,
    /// Space kept back so that a start on a full disk works.
    pub reserve_bytes: u64,
    /// sled's cache, in bytes.
    pub cache_bytes: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            checkpoint_bytes: 4 << 20,
            checkpoint_after: std::time::Duration::from_secs(30),
            generation_bytes: 32 << 20,
            reserve_bytes: 16 << 20,
            cache_bytes: 8 << 20,
        }
    }
}

/// A store that was opened.
#[derive(Debug)]
pub struct Opened {
    /// The store.
    pub store: JournalAndSled,
    /// Every record in it.
    pub records: Vec<Record>,
    /// What was found wrong and repaired, for people.
    pub notes: Vec<String>,
}

/// Why the store was not opened. Nothing that could help to find out more was overwritten.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another server uses the folder.
    #[error("{} is in use by another server", .0.display())]
    Locked(PathBuf),
    /// Something acknowledged is lost.
    #[error(
        "the store in {} is damaged and cannot be rebuilt from what is there:\n  {}\nrestore the folder from a \
         backup, or move it away to begin anew; nothing was changed",
        dir.display(), findings.join("\n  ")
    )]
    Damaged {
        /// The store's folder.
        dir: PathBuf,
        /// What was tried, and what was wrong with it.
        findings: Vec<String>,
    },
    /// The journal could not be opened.
    #[error("opening the journal")]
    Journal(#[source] JournalError),
    /// The journal could not be written.
    #[error("writing the journal")]
    Append(#[source] AppendError),
    /// The operating system refused.
    #[error("{}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Its answer.
        source: std::io::Error,
    },
}

/// The embedded store. [`open`] is the way to one.
pub struct JournalAndSled {
    id: StoreId,
    journal: Journal,
    state: Mutex<State>,
    /// Commits come one at a time; the registry's committer is the only caller.
    turn: tokio::sync::Mutex<()>,
    behind: Arc<Behind>,
}

struct State {
    index: Index,
    revision: Revision,
}

impl JournalAndSled {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the part behind the journal does not keep up, if that is so; acknowledged changes are safe all the same.
    pub fn lagging(&self) -> Option<String> {
        self.behind.failing()
    }
}

#[async_trait]
impl Store for JournalAndSled {
    fn id(&self) -> StoreId {
        self.id
    }

    fn revision(&self) -> Revision {
        self.state().revision
    }

    async fn commit(&self, groups: Vec<Vec<Change>>) -> Result<Committed, StoreError> {
        size::check(&groups)?;
        let _turn = self.turn.lock().await;
        self.behind.room().await?;
        let (outcomes, plan, frame, revision) = {
            let state = self.state();
            let outcomes = state.index.judge(&groups);
            let revision = state.revision.next();
            let passing = || {
                let passed = groups
                    .iter()
                    .zip(&outcomes)
                    .filter(|(_, outcome)| outcome.is_ok());
                passed.flat_map(|(group, _)| group)
            };
            if passing().next().is_none() {
                return Ok(Committed {
                    revision: state.revision,
                    outcomes: join(groups, outcomes),
                });
            }
            let plan = state.index.plan(passing(), revision);
            let frame = frame::encode(None, passing(), &plan.standings);
            (outcomes, plan, frame, revision)
        };
        let position = self.journal.append(frame).await.map_err(append_error)?;
        if position != revision.0 {
            // A commit that was cancelled half-way went into the journal and not into the index.
            return Err(StoreError::Stopped(format!(
                "revision {revision} became record {position}"
            )));
        }
        let standings = plan.standings;
        {
            let mut state = self.state();
            state.index.install(plan);
            state.revision = revision;
        }
        let outcomes = join(groups, outcomes);
        let changes = outcomes.iter().flatten().flatten();
        self.behind.note(
            revision,
            standings,
            changes.map(|change| (change.key.clone(), change.value.clone())),
        );
        Ok(Committed { revision, outcomes })
    }

    async fn close(&self) {
        self.behind.close().await;
    }
}

impl Drop for JournalAndSled {
    fn drop(&mut self) {
        self.behind.stop();
    }
}

impl std::fmt::Debug for JournalAndSled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JournalAndSled")
            .field("id", &self.id)
            .field("revision", &self.revision())
            .finish()
    }
}

fn join(
    groups: Vec<Vec<Change>>,
    outcomes: Vec<Result<(), super::Conflict>>,
) -> Vec<Result<Vec<Change>, super::Conflict>> {
    groups
        .into_iter()
        .zip(outcomes)
        .map(|(group, outcome)| outcome.map(|()| group))
        .collect()
}

fn append_error(error: AppendError) -> StoreError {
    match error {
        // Nothing that is appended begins a file.
        AppendError::Busy | AppendError::Unbegun(_) => StoreError::Busy,
        AppendError::Full => StoreError::Full,
        AppendError::Size(bytes) => StoreError::TooLarge(bytes),
        AppendError::Poisoned(why) => StoreError::Stopped(why.to_string()),
    }
}
