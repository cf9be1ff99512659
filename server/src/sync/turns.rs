use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use muster_identity::SpiffeId;
use tokio::sync::oneshot;

/// The kinds of streams of which a node has one at a time.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum StreamKind {
    /// `Sync` of our own nodes.
    Sync,
    /// `Issue` of our own nodes.
    Issue,
    /// `SyncAuthorizedEntries` of SPIRE's agents.
    AuthorizedEntries,
}

/// Whose turn it is: of each kind a node has one stream, the newest. A stream costs memory until it ends, and one whose peer is gone is told so late; the newer one is
/// proof that the older is of no use.
#[derive(Clone, Debug, Default)]
pub(super) struct Turns {
    held: Arc<Mutex<Held>>,
}

#[derive(Debug, Default)]
struct Held {
    next: u64,
    turns: HashMap<(SpiffeId, StreamKind), (u64, oneshot::Sender<()>)>,
}

/// The turn of one stream, until it is dropped or a newer one takes it.
#[derive(Debug)]
pub(crate) struct Turn {
    turns: Turns,
    key: (SpiffeId, StreamKind),
    number: u64,
    over: oneshot::Receiver<()>,
}

impl Turns {
    pub(super) fn take(&self, kind: StreamKind, node: &SpiffeId) -> Turn {
        let mut held = self.held();
        let (key, number) = ((node.clone(), kind), held.next);
        held.next += 1;
        let (end, over) = oneshot::channel();
        // Dropping the sender before tells its stream.
        held.turns.insert(key.clone(), (number, end));
        drop(held);
        Turn {
            turns: self.clone(),
            key,
            number,
            over,
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// Returns when a newer stream took the turn. Safe to drop half-way.
    pub(crate) async fn over(&mut self) {
        let _ = (&mut self.over).await;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut held = self.turns.held();
        if held
            .turns
            .get(&self.key)
            .is_some_and(|(number, _)| *number == self.number)
        {
            held.turns.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_newer_stream_of_the_same_kind_and_node_takes_the_turn() {
        let turns = Turns::default();
        let node: SpiffeId = "spiffe://example.org/node".parse().unwrap();
        let other: SpiffeId = "spiffe://example.org/other".parse().unwrap();
        let mut first = turns.take(StreamKind::Sync, &node);
        let (mut issue, mut others) = (
            turns.take(StreamKind::Issue, &node),
            turns.take(StreamKind::Sync, &other),
        );
        let mut second = turns.take(StreamKind::Sync, &node);
        first.over().await;
        drop(first);
        for turn in [&mut issue, &mut others, &mut second] {
            assert!(turn.over.try_recv() == Err(oneshot::error::TryRecvError::Empty));
        }
        drop((issue, others, second));
        assert!(turns.held().turns.is_empty());
    }
}
