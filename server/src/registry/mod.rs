//! What is registered: one ordered log of changes, one indexed view of where it has come to.
//!
//! handler ─changes with preconditions→ queue ─→ committer ─one durable commit→ store ─→ view, published whole
//!                                                                          └→ mailboxes of the nodes that it touches
//!
//! Handlers read a [`View`] (immutable, as of a position), build [`Change`]s that say what they rest on, and wait for
//! their [`Position`]. There is one writer: the [`Committer`]; it joins what waits into one commit, and what fails in
//! it fails alone. Nothing here is decided by time.

mod committer;
mod entitled;
pub mod entries;
pub mod grants;
mod jobs;
mod mailbox;
mod names;
mod prune;
mod records;
pub(crate) mod sweep;
#[cfg(test)]
mod tests;
mod view;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use muster_identity::{Position, TrustDomain};
use tokio::sync::{Notify, watch};

pub use crate::store::{Change, Conflict, Expect, Key, Tree};
pub use committer::{Committer, CommitterError};
pub use entitled::{Delta, Reach};
pub use mailbox::{Mail, Mailbox};
pub use prune::prune;
pub use records::{
    GrantRecord, NodeKey, NodeRecord, NodeSvid, RecordError, TokenGrant, TokenHash, TokenRecord,
};
pub(crate) use records::{node_bytes, token_bytes};
pub use view::{Document, Registered, View};

use crate::store::{Record, Store, StoreError};
use jobs::Job;
use mailbox::{Interest, Mailboxes};

/// The most bytes of changes that may wait for the committer.
const MAX_QUEUED: usize = 64 << 20;

/// A handle on the registry. Clones share it.
#[derive(Clone)]
pub struct Registry {
    shared: Arc<Shared>,
}

struct Shared {
    view: ArcSwap<View>,
    queue: Mutex<Queue>,
    wake: Notify,
    /// How often the committer came round.
    turns: watch::Sender<u64>,
    position: watch::Sender<Position>,
    mailboxes: Mailboxes,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    bytes: usize,
    closed: bool,
}

/// Why changes were not made.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CommitError {
    /// A precondition did not hold: look at a new view and decide again.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// The disk is full. Reads and signing go on.
    #[error("the server's disk is full")]
    Full,
    /// Too much waits for the disk; later it may do.
    #[error("the server is busy")]
    Busy,
    /// More than one change may hold.
    #[error("a change of {0} bytes is too large")]
    TooLarge(usize),
    /// The server is stopping, or its store failed; whether the change was made is unknown.
    #[error("the registry has stopped")]
    Stopped,
}

impl From<StoreError> for CommitError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full => Self::Full,
            StoreError::Busy => Self::Busy,
            StoreError::TooLarge(bytes) => Self::TooLarge(bytes),
            StoreError::Stopped(_) => Self::Stopped,
        }
    }
}

impl Registry {
    /// Builds the view of `records` and gives the handle, and the committer that somebody must run.
    ///
    /// # Errors
    /// When a record cannot be read: it was written by a newer version.
    pub fn open(
        store: Arc<dyn Store>,
        trust_domain: TrustDomain,
        records: Vec<Record>,
    ) -> Result<(Self, Committer), RecordError> {
        let mut view = View::empty(
            trust_domain,
            Position {
                store: store.id(),
                revision: store.revision(),
            },
        );
        view.fill(&records)?;
        drop(records);
        let shared = Arc::new(Shared {
            position: watch::Sender::new(view.position()),
            view: ArcSwap::from_pointee(view),
            queue: Mutex::default(),
            wake: Notify::new(),
            turns: watch::Sender::default(),
            mailboxes: Mailboxes::default(),
        });
        Ok((
            Self {
                shared: shared.clone(),
            },
            Committer::new(shared, store),
        ))
    }

    /// The newest view. Cheap to take and to hold; a request should take one and stay with it.
    pub fn view(&self) -> Arc<View> {
        self.shared.view.load_full()
    }

    /// Where the newest view stands.
    pub fn position(&self) -> Position {
        self.shared.view.load().position()
    }

    /// Wakes at each commit with its position; only the latest is kept.
    pub fn subscribe(&self) -> watch::Receiver<Position> {
        self.shared.position.subscribe()
    }

    /// Returns when the committer has come round once more, with what it held committed: never, when it is stuck or has ended.
    pub async fn moved(&self) {
        let mut turns = self.shared.turns.subscribe();
        self.shared.wake.notify_one();
        // The sender lives in what we share: it is not gone before us.
        turns.changed().await.ok();
    }

    /// Makes all of `changes`, or none. When this is `Ok`, they are durable and in the view.
    ///
    /// # Errors
    /// [`CommitError::Conflict`] names the key whose precondition did not hold.
    pub async fn commit(&self, changes: Vec<Change>) -> Result<Position, CommitError> {
        self.commit_each(vec![changes])
            .await
            .pop()
            .unwrap_or(Err(CommitError::Stopped))
    }

    /// Makes each group or not, one independent of the others; one answer a group, in order. They may become several commits.
    pub async fn commit_each(&self, groups: Vec<Vec<Change>>) -> Vec<Result<Position, CommitError>> {
        let (jobs, waiting) = jobs::divide(groups);
        let queued = match jobs.is_empty() {
            true => Ok(()),
            false => self.shared.enqueue(jobs),
        };
        if queued.is_ok() {
            self.shared.wake.notify_one();
        }
        jobs::gather(waiting, queued).await
    }

    /// A mailbox that is told what touches `node`, until it is dropped. Take it before the view that it is to follow.
    pub fn mailbox(&self, node: &muster_identity::SpiffeId) -> Arc<Mailbox> {
        self.shared.mailboxes.open(node, Interest::Everything)
    }

    /// A mailbox that is told of changes of the node's own record alone.
    pub fn record_mailbox(&self, node: &muster_identity::SpiffeId) -> Arc<Mailbox> {
        self.shared.mailboxes.open(node, Interest::Record)
    }
}

impl Shared {
    /// All of one caller's jobs, or none: what half of a batch that was too much for the queue means, nobody could tell.
    fn enqueue(&self, jobs: Vec<Job>) -> Result<(), CommitError> {
        let bytes: usize = jobs.iter().map(|job| job.bytes).sum();
        let mut queue = self.lock();
        if queue.closed {
            return Err(CommitError::Stopped);
        }
        if queue.bytes > 0 && queue.bytes + bytes > MAX_QUEUED {
            return Err(CommitError::Busy);
        }
        queue.bytes += bytes;
        queue.jobs.extend(jobs);
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Registry at {}", self.position())
    }
}
