//! For which entries an SVID is held.

use std::collections::{BTreeMap, BTreeSet};

use muster_identity::EntryId;

/// Decides which entries have an SVID ready: those that a caller present matches, always, and beside them the most recently used others up to a
/// capacity, so that a new process is served at once and also when the server is away (DESIGN 6.17).
#[derive(Debug)]
pub(super) struct Attention {
    capacity: usize,
    uses: u64,
    standing: BTreeMap<EntryId, Standing>,
    /// Held without a caller: first to go is the one that was used longest ago.
    idle: BTreeSet<(u64, EntryId)>,
    /// Not held, but may be when there is room: first to come is the one that was used last.
    spare: BTreeSet<(u64, EntryId)>,
    wanted: usize,
    changes: Vec<Change>,
}

/// An entry came into attention or left it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Change {
    Hold(EntryId),
    Drop(EntryId),
}

#[derive(Clone, Copy, Debug)]
struct Standing {
    watchers: usize,
    used: u64,
    prefetch: bool,
    wanted: bool,
}

impl Attention {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            uses: 0,
            standing: BTreeMap::new(),
            idle: BTreeSet::new(),
            spare: BTreeSet::new(),
            wanted: 0,
            changes: Vec::new(),
        }
    }

    /// An entry is known, or known differently.
    pub(super) fn known(&mut self, id: &EntryId, prefetch: bool) {
        let new = Standing {
            watchers: 0,
            used: 0,
            prefetch,
            wanted: false,
        };
        let standing = *self.standing.get(id).unwrap_or(&new);
        self.put(id, Standing { prefetch, ..standing });
    }

    /// An entry is gone, whoever watched it.
    pub(super) fn gone(&mut self, id: &EntryId) {
        if let Some(standing) = self.standing.remove(id) {
            self.unfile(id, standing);
            if standing.wanted {
                self.wanted -= 1;
            }
        }
    }

    /// A caller that matches the entry is present.
    pub(super) fn watch(&mut self, id: &EntryId) {
        self.uses += 1;
        let Some(standing) = self.standing.get(id).copied() else {
            return;
        };
        self.put(
            id,
            Standing {
                watchers: standing.watchers + 1,
                used: self.uses,
                ..standing
            },
        );
        self.hold(id);
    }

    /// A caller that matched the entry is gone.
    pub(super) fn unwatch(&mut self, id: &EntryId) {
        let Some(standing) = self.standing.get(id).copied() else {
            return;
        };
        self.put(
            id,
            Standing {
                watchers: standing.watchers.saturating_sub(1),
                ..standing
            },
        );
    }

    /// An SVID is held already, since before a restart.
    pub(super) fn was_held(&mut self, id: &EntryId) {
        self.uses += 1;
        let Some(standing) = self.standing.get(id).copied() else {
            return;
        };
        self.put(
            id,
            Standing {
                used: self.uses,
                ..standing
            },
        );
        self.hold(id);
    }

    /// Brings what is held back to the capacity, and says what changed since the last call.
    pub(super) fn settle(&mut self) -> Vec<Change> {
        while self.wanted > self.capacity
            && let Some((_, id)) = self.idle.first().cloned()
        {
            self.release(&id);
        }
        while self.wanted < self.capacity
            && let Some((_, id)) = self.spare.last().cloned()
        {
            self.hold(&id);
        }
        std::mem::take(&mut self.changes)
    }

    fn hold(&mut self, id: &EntryId) {
        let Some(standing) = self.standing.get(id).copied().filter(|standing| !standing.wanted) else {
            return;
        };
        self.wanted += 1;
        self.put(
            id,
            Standing {
                wanted: true,
                ..standing
            },
        );
        self.changes.push(Change::Hold(id.clone()));
    }

    fn release(&mut self, id: &EntryId) {
        let Some(standing) = self.standing.get(id).copied().filter(|standing| standing.wanted) else {
            return;
        };
        self.wanted -= 1;
        self.put(
            id,
            Standing {
                wanted: false,
                ..standing
            },
        );
        self.changes.push(Change::Drop(id.clone()));
    }

    fn put(&mut self, id: &EntryId, standing: Standing) {
        if let Some(before) = self.standing.insert(id.clone(), standing) {
            self.unfile(id, before);
        }
        match standing {
            Standing {
                wanted: true,
                watchers: 0,
                ..
            } => self.idle.insert((standing.used, id.clone())),
            Standing {
                wanted: false,
                prefetch: true,
                ..
            } => self.spare.insert((standing.used, id.clone())),
            _ => false,
        };
    }

    fn unfile(&mut self, id: &EntryId, standing: Standing) {
        let key = (standing.used, id.clone());
        self.idle.remove(&key);
        self.spare.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> EntryId {
        name.parse().unwrap()
    }

    #[test]
    fn what_is_watched_stays_beyond_the_capacity_and_the_longest_unused_goes_first() {
        let mut attention = Attention::new(2);
        for name in ["a", "b", "c", "d"] {
            attention.known(&id(name), true);
        }
        assert_eq!(attention.settle(), [Change::Hold(id("d")), Change::Hold(id("c"))]);
        for name in ["a", "b", "c"] {
            attention.watch(&id(name));
        }
        assert_eq!(
            attention.settle(),
            [
                Change::Hold(id("a")),
                Change::Hold(id("b")),
                Change::Drop(id("d"))
            ]
        );
        attention.unwatch(&id("c"));
        assert_eq!(attention.settle(), [Change::Drop(id("c"))]);
        attention.gone(&id("a"));
        assert_eq!(attention.settle(), [Change::Hold(id("c"))]);
    }

    #[test]
    fn an_entry_that_forbids_prefetch_is_held_only_after_a_caller_came() {
        let mut attention = Attention::new(10);
        attention.known(&id("a"), false);
        assert_eq!(attention.settle(), []);
        attention.watch(&id("a"));
        attention.unwatch(&id("a"));
        assert_eq!(attention.settle(), [Change::Hold(id("a"))]);
    }
}
