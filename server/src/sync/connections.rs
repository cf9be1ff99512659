use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::watch;

/// Which bundle each connected node holds: an authority does not sign before all of them know it (I8).
#[derive(Clone)]
pub struct Connections {
    held: Arc<Mutex<Held>>,
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct Held {
    next: u64,
    sequences: HashMap<u64, u64>,
}

/// One node's connection, as long as it lives.
pub(super) struct Connected {
    connections: Connections,
    number: u64,
}

impl Connections {
    /// No node is connected.
    pub fn new() -> Self {
        Self {
            held: Arc::default(),
            changed: watch::Sender::new(()),
        }
    }

    /// How many nodes are connected.
    pub fn count(&self) -> usize {
        self.held
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .sequences
            .len()
    }

    /// Whether every connected node holds our own bundle of this sequence number, or a later one.
    pub fn hold_bundle(&self, sequence: u64) -> bool {
        self.held
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .sequences
            .values()
            .all(|held| *held >= sequence)
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

    pub(super) fn connect(&self) -> Connected {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let number = held.next;
        held.next += 1;
        held.sequences.insert(number, 0);
        Connected {
            connections: self.clone(),
            number,
        }
    }
}

impl Default for Connections {
    fn default() -> Self {
        Self::new()
    }
}

impl Connected {
    /// The node says that it holds this.
    pub(super) fn holds(&self, sequence: u64) {
        self.connections
            .held
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .sequences
            .insert(self.number, sequence);
        self.connections.changed.send_replace(());
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.connections
            .held
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .sequences
            .remove(&self.number);
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
        let (first, second) = (connections.connect(), connections.connect());
        first.holds(7);
        assert!(!connections.hold_bundle(7));
        let waiting = connections.bundle_held(7);
        drop(second);
        waiting.await;
        assert!(connections.hold_bundle(7) && !connections.hold_bundle(8));
    }
}
