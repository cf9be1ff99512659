//! What this node is entitled to hand out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use muster_identity::{EntryId, Facts, Selector, SelectorSet};
use muster_proto::convert::NodeEntry;

/// All entitlements, found by what a process is.
///
/// Each stands in the index under one of its selectors, the one that the fewest others stand under; a process has that selector or can't match. So a look-up
/// costs the entries that share a rare selector with the process, not all entries.
#[derive(Debug, Default)]
pub(super) struct Entries {
    by_id: BTreeMap<EntryId, Indexed>,
    by_anchor: HashMap<Selector, BTreeSet<EntryId>>,
}

#[derive(Debug)]
struct Indexed {
    entry: Arc<NodeEntry>,
    anchor: Option<Selector>,
}

impl Entries {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn get(&self, id: &EntryId) -> Option<&Arc<NodeEntry>> {
        self.by_id.get(id).map(|indexed| &indexed.entry)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<NodeEntry>> {
        self.by_id.values().map(|indexed| &indexed.entry)
    }

    /// Puts `entry` in and returns what stood in its place.
    pub(super) fn put(&mut self, entry: Arc<NodeEntry>) -> Option<Arc<NodeEntry>> {
        let before = self.remove(&entry.id);
        let anchor = (!entry.store_svid)
            .then(|| self.rarest(&entry.selectors))
            .flatten();
        if let Some(anchor) = &anchor {
            self.by_anchor
                .entry(anchor.clone())
                .or_default()
                .insert(entry.id.clone());
        }
        self.by_id.insert(entry.id.clone(), Indexed { entry, anchor });
        before
    }

    pub(super) fn remove(&mut self, id: &EntryId) -> Option<Arc<NodeEntry>> {
        let Indexed { entry, anchor } = self.by_id.remove(id)?;
        if let Some(anchor) = anchor
            && let Some(standing) = self.by_anchor.get_mut(&anchor)
        {
            standing.remove(id);
            if standing.is_empty() {
                self.by_anchor.remove(&anchor);
            }
        }
        Some(entry)
    }

    /// The entries whose selectors are all among `facts`, by entry id.
    pub(super) fn matching(&self, facts: &Facts) -> BTreeSet<EntryId> {
        let near = facts
            .selectors()
            .iter()
            .filter_map(|selector| self.by_anchor.get(selector))
            .flatten();
        near.filter(|id| {
            self.get(id)
                .is_some_and(|entry| facts.satisfies(&entry.selectors))
        })
        .cloned()
        .collect()
    }

    /// Whether some entry would match if all of `unknown` were facts too, and does not without them.
    pub(super) fn could_match(&self, facts: &Facts, unknown: &dyn Fn(&Selector) -> bool) -> bool {
        // Not on a path that is walked often: an attestor failed and nothing matched.
        self.iter().filter(|entry| !entry.store_svid).any(|entry| {
            let mut lacking = entry
                .selectors
                .iter()
                .filter(|selector| !facts.selectors().contains(selector))
                .peekable();
            lacking.peek().is_some() && lacking.all(unknown)
        })
    }

    fn rarest(&self, selectors: &SelectorSet) -> Option<Selector> {
        let crowd = |selector: &&Selector| self.by_anchor.get(*selector).map_or(0, BTreeSet::len);
        selectors.iter().min_by_key(crowd).cloned()
    }
}
