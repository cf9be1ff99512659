//! The cache itself: events and time in, orders and views out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use muster_identity::{EntryId, Facts, Position, Selector, UnixTime};
use muster_pki::bundle::Bundle;
use muster_proto::convert::NodeEntry;
use tokio::sync::watch;

use super::attention::{Attention, Change};
use super::bundles::Bundles;
use super::chains::{Chains, OutdatedTotals};
use super::entries::Entries;
use super::groups::{GroupId, Groups};
use super::tokens::Tokens;
use super::view::{HeldX509, WorkloadView};
use crate::rotate::{Jitter, Renewals};

/// For how many entries without a caller an SVID is held beside those with one.
pub const PREFETCH: usize = 1_000;

/// Whether the server was spoken to since the start.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Contact {
    /// Not yet: what is missing may be known in a moment.
    Awaited,
    /// It was, or a first attempt failed: what is held is all that callers can have now.
    Settled,
}

/// Entries, SVIDs, bundles and tokens of this node, and the views that its callers have of them.
#[derive(Debug)]
pub struct Cache {
    pub(super) position: Option<Position>,
    pub(super) contact: Contact,
    pub(super) entries: Entries,
    pub(super) groups: Groups,
    pub(super) attention: Attention,
    pub(super) svids: BTreeMap<EntryId, Arc<HeldX509>>,
    pub(super) chains: Chains,
    pub(super) outdated_totals: OutdatedTotals,
    /// Those of them that were made under the numbers of another store, which say nothing here: each is made again.
    pub(super) of_other_store: BTreeSet<EntryId>,
    /// By their ends, to notice them.
    pub(super) ends: BTreeSet<(UnixTime, EntryId)>,
    /// Entries without an SVID for which signing failed at least once: callers wait for them no longer.
    pub(super) failed: BTreeSet<EntryId>,
    pub(super) renewals: Renewals<EntryId>,
    pub(super) bundles: Bundles,
    pub(super) tokens: Tokens,
    pub(super) dirty: BTreeSet<GroupId>,
    pub(super) changes: u64,
}

impl Cache {
    /// A cache with the own bundle and nothing else.
    pub fn new(own: Arc<Bundle>, prefetch: usize, mut jitter: Jitter) -> Self {
        let for_tokens = Jitter::seeded(jitter.between(0, i64::MAX).unsigned_abs());
        Self {
            position: None,
            contact: Contact::Awaited,
            entries: Entries::default(),
            groups: Groups::default(),
            attention: Attention::new(prefetch),
            svids: BTreeMap::new(),
            chains: Chains::default(),
            outdated_totals: OutdatedTotals::default(),
            of_other_store: BTreeSet::new(),
            ends: BTreeSet::new(),
            failed: BTreeSet::new(),
            renewals: Renewals::new(jitter),
            bundles: Bundles::new(own),
            tokens: Tokens::new(for_tokens),
            dirty: BTreeSet::new(),
            changes: 0,
        }
    }

    /// Where the entries stand.
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// Each entry with its version, by id.
    pub fn versions(&self) -> impl Iterator<Item = (&EntryId, u64)> {
        self.entries.iter().map(|entry| (&entry.id, entry.version))
    }

    /// Each entry, by id.
    pub fn entries(&self) -> impl Iterator<Item = &Arc<NodeEntry>> {
        self.entries.iter()
    }

    /// The bundles of other trust domains.
    pub fn federated(&self) -> impl Iterator<Item = &Arc<Bundle>> {
        self.bundles.federated().map(|(bundle, _)| bundle)
    }

    /// How many entries, SVIDs, tokens and groups of callers there are.
    pub fn sizes(&self) -> [usize; 4] {
        [
            self.entries.len(),
            self.svids.len(),
            self.tokens.len(),
            self.groups.len(),
        ]
    }

    /// How many SVIDs ought to have been renewed but were not, and the first end among them.
    pub fn overdue(&self) -> (usize, Option<UnixTime>) {
        self.renewals.overdue()
    }

    /// The bundle of the own trust domain.
    pub fn own_bundle(&self) -> &Arc<Bundle> {
        self.bundles.own()
    }

    /// What callers with `facts` may have, now and later.
    pub fn subscribe(&mut self, facts: &Facts, now: UnixTime) -> watch::Receiver<Arc<WorkloadView>> {
        if let Some(group) = self.groups.with_facts(facts) {
            return group.subscribe();
        }
        if self.groups.crowded() {
            self.sweep();
        }
        let entries = self.entries.matching(facts);
        for entry in &entries {
            self.attention.watch(entry);
        }
        let view = self.view(&entries);
        let id = self.groups.add(facts.clone(), entries, view);
        let receiver = self.groups.get(id).map(super::groups::Group::subscribe);
        self.dirty.insert(id);
        self.settle(now);
        receiver.expect("the group was just added, and settling removes none")
    }

    /// See [`Entries::could_match`].
    pub fn could_match(&self, facts: &Facts, unknown: &dyn Fn(&Selector) -> bool) -> bool {
        self.entries.could_match(facts, unknown)
    }

    /// Whether the server was spoken to.
    pub fn contact(&self) -> Contact {
        self.contact
    }

    /// The server was spoken to, or could not be: callers wait for its first word no longer.
    pub fn contact_settled(&mut self, now: UnixTime) {
        if self.contact == Contact::Awaited {
            self.contact = Contact::Settled;
            self.dirty.extend(self.groups.ids());
            self.settle(now);
        }
    }

    /// Counts what a copy on disk would have to follow.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    pub(super) fn sweep(&mut self) {
        for entry in self.groups.sweep() {
            self.attention.unwatch(&entry);
        }
    }

    /// Acts on what the events changed: whose SVIDs are held, and what callers see.
    pub(super) fn settle(&mut self, now: UnixTime) {
        for change in self.attention.settle() {
            match change {
                Change::Hold(id) => {
                    if !self.svids.contains_key(&id) {
                        self.renewals.need(id, now);
                    }
                }
                Change::Drop(id) => {
                    self.drop_svid(&id);
                    self.renewals.forget(&id);
                }
            }
        }
        for id in std::mem::take(&mut self.dirty) {
            if let Some(entries) = self.groups.get(id).map(|group| group.entries.clone()) {
                let view = self.view(&entries);
                if let Some(group) = self.groups.get(id) {
                    group.show(view);
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
