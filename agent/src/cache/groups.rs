//! The callers present, grouped by what they are.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use muster_identity::{EntryId, Facts, Selector, SelectorSet};
use tokio::sync::watch;

use super::view::WorkloadView;

/// How many groups there may be before those without callers are looked for.
const FIRST_SWEEP: usize = 256;

/// Names a group.
pub(super) type GroupId = u64;

/// Callers with equal facts. They share one view.
#[derive(Debug)]
pub(super) struct Group {
    /// The entries that match.
    pub(super) entries: BTreeSet<EntryId>,
    facts: Facts,
    view: watch::Sender<Arc<WorkloadView>>,
}

/// All groups, found by their facts, by an entry that they match, and by the selectors of an entry that they may match.
#[derive(Debug)]
pub(super) struct Groups {
    next: GroupId,
    by_id: BTreeMap<GroupId, Group>,
    by_facts: HashMap<Facts, GroupId>,
    by_selector: HashMap<Selector, BTreeSet<GroupId>>,
    by_entry: HashMap<EntryId, BTreeSet<GroupId>>,
    sweep_at: usize,
}

impl Default for Groups {
    fn default() -> Self {
        Self {
            next: 0,
            by_id: BTreeMap::new(),
            by_facts: HashMap::new(),
            by_selector: HashMap::new(),
            by_entry: HashMap::new(),
            sweep_at: FIRST_SWEEP,
        }
    }
}

impl Group {
    pub(super) fn view(&self) -> Arc<WorkloadView> {
        Arc::clone(&self.view.borrow())
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Arc<WorkloadView>> {
        self.view.subscribe()
    }

    /// Shows `view` to the callers, unless it tells them nothing new.
    pub(super) fn show(&self, view: WorkloadView) {
        self.view.send_if_modified(|shown| {
            let news = !view.tells_the_same_as(shown);
            if news {
                *shown = Arc::new(view);
            }
            news
        });
    }
}

impl Groups {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = GroupId> {
        self.by_id.keys().copied()
    }

    pub(super) fn get(&self, id: GroupId) -> Option<&Group> {
        self.by_id.get(&id)
    }

    pub(super) fn with_facts(&self, facts: &Facts) -> Option<&Group> {
        self.by_facts.get(facts).and_then(|id| self.by_id.get(id))
    }

    /// Adds a group that stands at `view`. The caller has looked that there is none with these facts.
    pub(super) fn add(&mut self, facts: Facts, entries: BTreeSet<EntryId>, view: WorkloadView) -> GroupId {
        let id = self.next;
        self.next += 1;
        for selector in facts.selectors() {
            self.by_selector.entry(selector.clone()).or_default().insert(id);
        }
        for entry in &entries {
            self.by_entry.entry(entry.clone()).or_default().insert(id);
        }
        self.by_facts.insert(facts.clone(), id);
        self.by_id.insert(
            id,
            Group {
                entries,
                facts,
                view: watch::Sender::new(Arc::new(view)),
            },
        );
        id
    }

    /// The groups that match `entry` as it stood.
    pub(super) fn of_entry(&self, entry: &EntryId) -> impl Iterator<Item = GroupId> {
        self.by_entry.get(entry).into_iter().flatten().copied()
    }

    /// The groups whose facts hold all of `selectors`.
    pub(super) fn satisfying(&self, selectors: &SelectorSet) -> BTreeSet<GroupId> {
        let crowd = |selector: &&Selector| self.by_selector.get(*selector).map_or(0, BTreeSet::len);
        let Some(rarest) = selectors.iter().min_by_key(crowd) else {
            return BTreeSet::new();
        };
        let near = self.by_selector.get(rarest).into_iter().flatten().copied();
        near.filter(|id| {
            self.get(*id)
                .is_some_and(|group| group.facts.satisfies(selectors))
        })
        .collect()
    }

    /// `entry` is matched by exactly these groups from now on. Returns the groups it came to and those it left.
    pub(super) fn match_entry(
        &mut self,
        entry: &EntryId,
        now: BTreeSet<GroupId>,
    ) -> (Vec<GroupId>, Vec<GroupId>) {
        let before = self.by_entry.remove(entry).unwrap_or_default();
        let came: Vec<GroupId> = now.difference(&before).copied().collect();
        let left: Vec<GroupId> = before.difference(&now).copied().collect();
        for id in &came {
            if let Some(group) = self.by_id.get_mut(id) {
                group.entries.insert(entry.clone());
            }
        }
        for id in &left {
            if let Some(group) = self.by_id.get_mut(id) {
                group.entries.remove(entry);
            }
        }
        if !now.is_empty() {
            self.by_entry.insert(entry.clone(), now);
        }
        (came, left)
    }

    /// Whether there are so many groups that [`Groups::sweep`] is worth it.
    pub(super) fn crowded(&self) -> bool {
        self.by_id.len() >= self.sweep_at
    }

    /// Removes the groups whose callers are all gone and returns the entries that each matched.
    ///
    /// Callers leave without a word, by dropping their receiver; looking for them only now and then keeps a call on an open connection to one map look-up.
    pub(super) fn sweep(&mut self) -> Vec<EntryId> {
        let empty: Vec<GroupId> = self
            .by_id
            .iter()
            .filter(|(_, group)| group.view.receiver_count() == 0)
            .map(|(id, _)| *id)
            .collect();
        let mut entries = Vec::new();
        for id in empty {
            let Some(group) = self.by_id.remove(&id) else {
                continue;
            };
            self.by_facts.remove(&group.facts);
            for selector in group.facts.selectors() {
                unlink(&mut self.by_selector, selector, id);
            }
            for entry in group.entries {
                unlink(&mut self.by_entry, &entry, id);
                entries.push(entry);
            }
        }
        self.sweep_at = (self.by_id.len() * 2).max(FIRST_SWEEP);
        entries
    }
}

fn unlink<K: Eq + std::hash::Hash>(links: &mut HashMap<K, BTreeSet<GroupId>>, key: &K, id: GroupId) {
    if let Some(ids) = links.get_mut(key) {
        ids.remove(&id);
        if ids.is_empty() {
            links.remove(key);
        }
    }
}
