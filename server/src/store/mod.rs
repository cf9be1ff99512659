//! Where the registry's log lives: keys with versions, changed in commits.
//!
//! A commit is made of groups. Each group holds changes that must all be possible (every precondition true, in the
//! order given), else nothing of the group is done; groups fail alone, and those that pass become durable together as
//! one revision. [`Memory`] forgets at the end of the process, [`journal_and_sled`] does not; both pass the suite in
//! `conformance`.

mod change;
#[cfg(test)]
pub(crate) mod conformance;
mod index;
pub mod journal_and_sled;
mod memory;
mod size;

use async_trait::async_trait;
use muster_identity::{Revision, StoreId};

pub use change::{Change, Conflict, Expect, Key, Record, Tree};
pub use memory::Memory;
pub(crate) use size::checked_size;

/// An ordered, durable log of changes to keys.
#[async_trait]
pub trait Store: Send + Sync {
    /// The log's name: 16 random bytes of its own.
    fn id(&self) -> StoreId;

    /// The last revision.
    fn revision(&self) -> Revision;

    /// Makes the groups that can be done durable, all in one revision. When this answers, they survive a power cut.
    ///
    /// One caller at a time: the registry's committer.
    async fn commit(&self, groups: Vec<Vec<Change>>) -> Result<Committed, StoreError>;

    /// Writes behind what is still to be written behind, and waits for it. Nothing is lost without it; the next
    /// start is quicker with it.
    async fn close(&self);
}

/// What a commit did.
#[derive(Debug)]
pub struct Committed {
    /// The revision of the changes that were made; the one before when none was.
    pub revision: Revision,
    /// For each group what was asked: its changes, or what stood against them.
    pub outcomes: Vec<Result<Vec<Change>, Conflict>>,
}

/// Why nothing of a commit is durable, or may not be.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk is full; nothing was written. It goes on by itself when there is space.
    #[error("the store's disk is full")]
    Full,
    /// Too much waits for the disk.
    #[error("the store is busy")]
    Busy,
    /// More than one commit may hold.
    #[error("a change of {0} bytes is too large")]
    TooLarge(usize),
    /// A write or sync failed: whether the commit is durable is unknown. The process must end; a new start finds out.
    #[error("the store stopped: {0}")]
    Stopped(String),
}
