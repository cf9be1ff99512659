use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use muster_identity::{Revision, SpiffeId};
use tokio::sync::watch;
use tokio::time::Instant;

use super::asking::Asking;
use super::turns::{StreamKind, Turn, Turns};

/// What each connected node has installed: an authority does not sign before all of them know it (I8), and an
/// operator may wait for an entry to arrive.
#[derive(Clone)]
pub struct Connections {
    held: Arc<Mutex<Held>>,
    turns: Turns,
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct Held {
    next: u64,
    nodes: HashMap<u64, Node>,
    /// Those without a stream, who ask.
    asking: Asking,
}

struct Node {
    id: SpiffeId,
    /// The sequence number of our own bundle.
    bundle: u64,
    entries: Revision,
    /// SVIDs below a tainted authority.
    outdated: u64,
}

/// What a connected node says of bundles and what they made obsolete.
#[derive(Clone, Debug)]
pub(crate) struct HeldBundle {
    /// Which node.
    pub(crate) node: SpiffeId,
    /// The sequence number of our own bundle that it holds; 0 before its first word.
    pub(crate) bundle: u64,
    /// How many SVIDs it holds below a tainted authority.
    pub(crate) outdated: u64,
}

/// One node's connection, as long as it lives.
pub(crate) struct Connected {
    connections: Connections,
    number: u64,
}

impl Connections {
    /// No node is connected.
    pub fn new() -> Self {
        Self {
            held: Arc::default(),
            turns: Turns::default(),
            changed: watch::Sender::new(()),
        }
    }

    /// How many nodes are connected.
    pub fn count(&self) -> usize {
        self.held().nodes.len()
    }

    /// Which nodes are connected, and up to where in our log each has installed its entries.
    pub fn installed(&self) -> Vec<(SpiffeId, Revision)> {
        let held = self.held();
        held.nodes
            .values()
            .map(|node| (node.id.clone(), node.entries))
            .collect()
    }

    /// Wakes when a node comes, goes or installs something.
    pub fn watch(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// What each connected node says of our own bundle.
    pub(crate) fn held_bundles(&self) -> Vec<HeldBundle> {
        let held = self.held();
        let each = held.nodes.values().map(|node| HeldBundle {
            node: node.id.clone(),
            bundle: node.bundle,
            outdated: node.outdated,
        });
        each.collect()
    }

    /// Whether every connected node holds our own bundle of this sequence number, or a later one, and every node that asks from time to time was given it.
    pub fn hold_bundle(&self, sequence: u64) -> bool {
        let held = self.held();
        held.nodes.values().all(|node| node.bundle >= sequence)
            && held.asking.all_were_given(sequence, Instant::now())
    }

    /// A node without a stream asked for our own bundle and is given the one of this sequence number.
    pub(crate) fn given(&self, node: &SpiffeId, sequence: u64) {
        let news = self.held().asking.given(node, sequence, Instant::now());
        if news {
            self.changed.send_replace(());
        }
    }

    /// Waits until [`Connections::hold_bundle`] is true. The caller has a deadline: a node that hangs must not hold up
    /// a rotation.
    pub async fn bundle_held(&self, sequence: u64) {
        let mut changed = self.changed.subscribe();
        while !self.hold_bundle(sequence) {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// The turn of a new stream of `node`; the one of this kind that it had before is told that it is over.
    pub(crate) fn turn(&self, kind: StreamKind, node: &SpiffeId) -> Turn {
        self.turns.take(kind, node)
    }

    pub(crate) fn connect(&self, id: SpiffeId) -> Connected {
        let mut held = self.held();
        let number = held.next;
        held.next += 1;
        held.nodes.insert(
            number,
            Node {
                id,
                bundle: 0,
                entries: Revision(0),
                outdated: 0,
            },
        );
        drop(held);
        self.changed.send_replace(());
        Connected {
            connections: self.clone(),
            number,
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Connections {
    fn default() -> Self {
        Self::new()
    }
}

impl Connected {
    /// The node says that it holds our own bundle of this sequence number.
    pub(crate) fn holds(&self, sequence: u64) {
        self.change(|node| node.bundle = sequence);
    }

    /// The node says how many SVIDs it holds below a tainted authority.
    pub(super) fn outdated(&self, count: u64) {
        self.change(|node| node.outdated = count);
    }

    /// The node has installed everything up to here.
    pub(super) fn installed(&self, revision: Revision) {
        self.change(|node| node.entries = node.entries.max(revision));
    }

    fn change(&self, change: impl FnOnce(&mut Node)) {
        if let Some(node) = self.connections.held().nodes.get_mut(&self.number) {
            change(node);
        }
        self.connections.changed.send_replace(());
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.connections.held().nodes.remove(&self.number);
        self.connections.changed.send_replace(());
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connections of {} nodes", self.count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_bundle_is_held_when_the_last_connected_node_holds_it_or_is_gone() {
        let connections = Connections::new();
        connections.bundle_held(7).await;
        let id: SpiffeId = "spiffe://example.org/node".parse().unwrap();
        let (first, second) = (connections.connect(id.clone()), connections.connect(id));
        first.holds(7);
        assert!(!connections.hold_bundle(7));
        let waiting = connections.bundle_held(7);
        drop(second);
        waiting.await;
        assert!(connections.hold_bundle(7) && !connections.hold_bundle(8));
    }

    #[test]
    fn what_a_node_has_installed_only_grows_and_ends_with_its_connection() {
        let connections = Connections::new();
        let id: SpiffeId = "spiffe://example.org/node".parse().unwrap();
        let node = connections.connect(id.clone());
        node.installed(Revision(7));
        node.installed(Revision(5));
        assert_eq!(connections.installed(), [(id, Revision(7))]);
        let mut changes = connections.watch();
        changes.mark_unchanged();
        drop(node);
        assert!(connections.installed().is_empty() && changes.has_changed().unwrap());
    }
}
