//! What the journal has and sled has not yet: collected, and written at checkpoints by a thread of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use muster_identity::{Revision, StoreId};
use muster_journal::{Journal, Reserve, snapshot};
use tokio::sync::Notify;

use super::Settings;
use super::frame::{self, Checkpoint};
use super::tables::{Tables, TablesError};
use crate::store::index::Standings;
use crate::store::{Key, Record, StoreError};

/// With this many checkpoints' worth waiting, commits wait too.
const FAR_BEHIND: usize = 4;
/// How long to wait after a checkpoint failed.
const RETRY: Duration = Duration::from_secs(3);
/// The longest wait after snapshots failed again and again.
const LONGEST_RETRY: Duration = Duration::from_secs(300);

pub(super) type Pending = BTreeMap<Key, Option<(Revision, Vec<u8>)>>;

pub(super) struct Behind {
    state: Mutex<State>,
    wake: Condvar,
    /// Commits that wait for room, and closers.
    progress: Notify,
    settings: Settings,
}

struct State {
    pending: Pending,
    bytes: usize,
    since: Option<Instant>,
    revision: Revision,
    standings: Standings,
    /// What sled has.
    written: Revision,
    order: Order,
    failing: Option<String>,
    /// Why the last snapshot was not written.
    no_snapshot: Option<String>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Order {
    Run,
    /// Write everything now, then go on.
    Close,
    Stop,
}

/// Everything the thread owns.
pub(super) struct Work {
    pub(super) dir: PathBuf,
    pub(super) store: StoreId,
    pub(super) journal: Journal,
    pub(super) tables: Tables,
    pub(super) reserve: Reserve,
    /// Whether no snapshot covers the journal's beginning, so that one is needed at once.
    pub(super) snapshot_due: bool,
}

/// When a snapshot that is needed is tried. Each try reads all of sled and begins a generation of the journal, so one that fails is not tried again at once.
#[derive(Debug, Default)]
struct SnapshotTry {
    at: Option<Instant>,
    /// How long after the last failure.
    pause: Duration,
}

impl SnapshotTry {
    fn is_due(&self) -> bool {
        self.at.is_some_and(|at| Instant::now() >= at)
    }

    fn failed(&mut self) {
        self.pause = (2 * self.pause).clamp(RETRY, LONGEST_RETRY);
        self.at = Some(Instant::now() + self.pause);
    }
}

impl Behind {
    /// Starts with what sled lacks: `pending` up to `revision`, with sled at `written`.
    pub(super) fn start(
        settings: Settings,
        work: Work,
        pending: Pending,
        written: Revision,
        revision: Revision,
        standings: Standings,
    ) -> std::io::Result<Arc<Self>> {
        let bytes = pending
            .iter()
            .map(|(key, value)| size(key, value.as_ref().map(|(_, v)| v.len())))
            .sum();
        let since = (written < revision).then(Instant::now);
        let state = State {
            pending,
            bytes,
            since,
            revision,
            standings,
            written,
            order: Order::Run,
            failing: None,
            no_snapshot: None,
        };
        let behind = Arc::new(Self {
            state: Mutex::new(state),
            wake: Condvar::new(),
            progress: Notify::new(),
            settings,
        });
        let thread = behind.clone();
        std::thread::Builder::new()
            .name("write-behind".into())
            .spawn(move || thread.serve(work))?;
        Ok(behind)
    }

    pub(super) fn note(
        &self,
        revision: Revision,
        standings: Standings,
        changes: impl Iterator<Item = (Key, Option<Vec<u8>>)>,
    ) {
        let mut state = self.lock();
        for (key, value) in changes {
            state.bytes += size(&key, value.as_ref().map(Vec::len));
            state.pending.insert(key, value.map(|value| (revision, value)));
        }
        state.revision = revision;
        state.standings = standings;
        state.since.get_or_insert_with(Instant::now);
        let due = state.bytes >= self.settings.checkpoint_bytes;
        drop(state);
        if due {
            self.wake.notify_one();
        }
    }

    /// Waits until there is room for another commit.
    pub(super) async fn room(&self) -> Result<(), StoreError> {
        loop {
            let progress = self.progress.notified();
            {
                let state = self.lock();
                if state.bytes < FAR_BEHIND * self.settings.checkpoint_bytes {
                    return Ok(());
                }
                if state.failing.is_some() {
                    return Err(StoreError::Full);
                }
            }
            self.wake.notify_one();
            progress.await;
        }
    }

    /// Why sled or the snapshots don't keep up with the journal.
    pub(super) fn failing(&self) -> Option<String> {
        let state = self.lock();
        let behind = state.revision.0 - state.written.0;
        if let Some(why) = &state.failing {
            return Some(format!(
                "{behind} commits are in the journal and not in sled: {why}"
            ));
        }
        if state.bytes >= FAR_BEHIND / 2 * self.settings.checkpoint_bytes {
            return Some(format!("{behind} commits are in the journal and not in sled yet"));
        }
        let why = state.no_snapshot.as_ref()?;
        Some(format!("no snapshot, so the journal grows: {why}"))
    }

    pub(super) async fn close(&self) {
        loop {
            let progress = self.progress.notified();
            {
                let mut state = self.lock();
                if state.written >= state.revision || state.order == Order::Stop || state.failing.is_some() {
                    return;
                }
                state.order = Order::Close;
            }
            self.wake.notify_one();
            progress.await;
        }
    }

    pub(super) fn stop(&self) {
        self.lock().order = Order::Stop;
        self.wake.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, mut work: Work) {
        let mut snapshot = SnapshotTry {
            at: work.snapshot_due.then(Instant::now),
            ..SnapshotTry::default()
        };
        while let Some(batch) = self.wait(snapshot.at) {
            match self.checkpoint(&mut work, &batch, &mut snapshot) {
                Ok(()) => {
                    let mut state = self.lock();
                    state.written = batch.revision;
                    state.failing = None;
                    if state.order == Order::Close {
                        state.order = Order::Run;
                    }
                }
                Err(error) => self.take_back(batch, &error),
            }
            self.progress.notify_waiters();
        }
        self.progress.notify_waiters();
    }

    /// The next batch, when it is due; `None` at the end.
    fn wait(&self, snapshot_at: Option<Instant>) -> Option<Batch> {
        let mut state = self.lock();
        loop {
            let waited = state.since.map(|since| since.elapsed());
            let longest = if state.failing.is_some() {
                RETRY
            } else {
                self.settings.checkpoint_after
            };
            // While sled itself fails, only its own retry counts: a snapshot is read from it.
            let snapshot_at = snapshot_at.filter(|_| state.failing.is_none());
            let snapshot_in = snapshot_at.map(|at| at.saturating_duration_since(Instant::now()));
            let due = state.failing.is_none() && state.bytes >= self.settings.checkpoint_bytes
                || snapshot_in.is_some_and(|left| left.is_zero())
                || waited.is_some_and(|waited| waited >= longest);
            match state.order {
                Order::Stop => return None,
                Order::Close if state.written < state.revision => break,
                Order::Close | Order::Run if due => break,
                Order::Close | Order::Run => {}
            }
            let checkpoint_in = waited.map(|waited| longest.saturating_sub(waited));
            state = match checkpoint_in.into_iter().chain(snapshot_in).min() {
                Some(timeout) => {
                    self.wake
                        .wait_timeout(state, timeout)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
                None => self.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
        let pending = std::mem::take(&mut state.pending);
        state.bytes = 0;
        state.since = None;
        Some(Batch {
            pending,
            revision: state.revision,
            standings: state.standings,
        })
    }

    fn checkpoint(
        &self,
        work: &mut Work,
        batch: &Batch,
        snapshot: &mut SnapshotTry,
    ) -> Result<(), TablesError> {
        let size = 2 * newest_snapshot_bytes(&work.dir);
        let rotate =
            snapshot.is_due() || work.journal.generation_bytes() > self.settings.generation_bytes.max(size);
        // The new generation begins before the checkpoint, so that the checkpoint covers the old one.
        if rotate && let Err(error) = work.journal.rotate().wait() {
            tracing::warn!(%error, "the journal began no new generation");
        }
        let checkpoint = Checkpoint {
            store: work.store,
            revision: batch.revision,
            standings: batch.standings,
        };
        let changes = batch.pending.iter().map(|(key, value)| {
            (
                key,
                value
                    .as_ref()
                    .map(|(version, value)| (*version, value.as_slice())),
            )
        });
        work.tables.write(changes, &checkpoint)?;
        if rotate {
            let written = write_snapshot(work, &checkpoint);
            match &written {
                Ok(()) => *snapshot = SnapshotTry::default(),
                Err(error) => {
                    snapshot.failed();
                    tracing::warn!(%error, again_in = ?snapshot.pause, "no snapshot was written; the journal is kept whole instead");
                }
            }
            self.lock().no_snapshot = written.err().map(|error| error.to_string());
        }
        if let Err(error) = work.reserve.ensure() {
            tracing::warn!(%error, "no reserve for a full disk");
        }
        Ok(())
    }

    /// Nothing is lost: the journal has it all, and newer values of the same keys win.
    fn take_back(&self, batch: Batch, error: &TablesError) {
        tracing::error!(error = %error, "sled lags behind the journal; changes stay safe in the journal");
        let mut state = self.lock();
        for (key, value) in batch.pending {
            let bytes = size(&key, value.as_ref().map(|(_, value)| value.len()));
            if let std::collections::btree_map::Entry::Vacant(vacant) = state.pending.entry(key) {
                vacant.insert(value);
                state.bytes += bytes;
            }
        }
        state.since = Some(Instant::now());
        state.failing = Some(error.to_string());
        if state.order == Order::Close {
            state.order = Order::Run;
        }
    }
}

struct Batch {
    pending: Pending,
    revision: Revision,
    standings: Standings,
}

/// The state as of a checkpoint, read back from sled and compared: a snapshot never carries damage on.
fn write_snapshot(work: &mut Work, checkpoint: &Checkpoint) -> Result<(), SnapshotFailure> {
    let (records, unsound) = work.tables.read_all()?;
    if !unsound.is_empty() {
        return Err(SnapshotFailure::Differs);
    }
    let mut index = crate::store::index::Index::default();
    for record in &records {
        index.apply(&record.key, Some(&record.value), record.version);
    }
    if index.standings() != checkpoint.standings {
        return Err(SnapshotFailure::Differs);
    }
    let path = snapshot_path(&work.dir, checkpoint.revision);
    let head = std::iter::once(checkpoint.encode());
    let records = records.iter().map(|record: &Record| frame::encode_record(record));
    snapshot::write(&path, checkpoint.revision.0, head.chain(records))?;
    forget_old(work);
    Ok(())
}

#[derive(Debug, thiserror::Error)]
enum SnapshotFailure {
    #[error("reading sled back")]
    Tables(#[from] TablesError),
    #[error("sled does not hold what was written to it")]
    Differs,
    #[error("writing the file")]
    Io(#[from] std::io::Error),
}

fn forget_old(work: &Work) {
    let mut snapshots = snapshots(&work.dir);
    while snapshots.len() > 2 {
        let (_, path) = snapshots.remove(0);
        if let Err(error) = std::fs::remove_file(&path) {
            tracing::warn!(path = %path.display(), %error, "an old snapshot stays");
        }
    }
    // With one snapshot only, the journal's beginning is the other way back.
    if let [(older, _), _] = snapshots.as_slice()
        && let Err(error) = work.journal.drop_before(older.0 + 1)
    {
        tracing::warn!(%error, "an old generation of the journal stays");
    }
}

pub(super) fn snapshot_path(dir: &Path, revision: Revision) -> PathBuf {
    dir.join(format!("snapshot-{:020}", revision.0))
}

/// The snapshots of a folder, oldest first.
pub(super) fn snapshots(dir: &Path) -> Vec<(Revision, PathBuf)> {
    let mut found: Vec<_> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let name = entry.file_name();
            let revision = name.to_str()?.strip_prefix("snapshot-")?.parse().ok()?;
            Some((Revision(revision), entry.path()))
        })
        .collect();
    found.sort_unstable_by_key(|(revision, _)| *revision);
    found
}

fn newest_snapshot_bytes(dir: &Path) -> u64 {
    let newest = snapshots(dir).pop();
    newest
        .and_then(|(_, path)| std::fs::metadata(path).ok())
        .map_or(0, |found| found.len())
}

fn size(key: &Key, value: Option<usize>) -> usize {
    key.name.len() + value.unwrap_or(0) + 64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_that_fail_are_tried_ever_more_rarely() {
        let mut snapshot = SnapshotTry::default();
        assert!(!snapshot.is_due());
        let pauses: Vec<_> = (0..9)
            .map(|_| {
                snapshot.failed();
                assert!(!snapshot.is_due());
                snapshot.pause.as_secs()
            })
            .collect();
        assert_eq!(pauses, [3, 6, 12, 24, 48, 96, 192, 300, 300]);
    }
}
