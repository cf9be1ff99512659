//! The cache itself: events and time in, orders and views out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use muster_identity::{EntryId, Facts, Hint, Position, Selector, SpiffeId, StoreId, TrustDomain, UnixTime};
use muster_pki::bundle::{Bundle, BundleSet};
use muster_pki::jwt::JwtSvid;
use muster_proto::convert::NodeEntry;
use tokio::sync::watch;

use super::attention::{Attention, Change};
use super::bundles::Bundles;
use super::entries::Entries;
use super::groups::{GroupId, Groups};
use super::tokens::{Age, Tokens};
use super::view::{HeldIdentity, HeldX509, WorkloadView};
use crate::rotate::{Jitter, Outcome, Renewals, Validity};

/// For how many entries without a caller an SVID is held beside those with one.
pub const PREFETCH: usize = 1_000;

/// What the server said about this node's entitlements, complete up to a position.
#[derive(Debug)]
pub struct Update {
    /// Where in the server's log this stands.
    pub position: Position,
    /// Entries that are new or changed.
    pub upserts: Vec<NodeEntry>,
    /// Entries that this node is no longer entitled to.
    pub removals: Vec<EntryId>,
}

/// The update is older than what is held, and nothing was changed (I3).
#[derive(Debug, thiserror::Error)]
#[error("the server's view at {offered} is older than ours at {held}")]
pub struct StaleUpdate {
    held: Position,
    offered: Position,
}

/// An SVID to be signed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SignOrder {
    /// Under which entry.
    pub entry_id: EntryId,
    /// Whose it will be.
    pub id: SpiffeId,
}

/// Why an SVID was not signed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SignFailure {
    /// The server was not reached or could not answer.
    Unreachable,
    /// The server answered no.
    Refused,
}

/// Whether the server was spoken to since the start.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Contact {
    /// Not yet: what is missing may be known in a moment.
    Awaited,
    /// It was, or a first attempt failed: what is held is all that callers can have now.
    Settled,
}

/// All that survives a restart. Views and tokens don't: they are made anew.
#[derive(Debug, Default)]
pub struct Kept {
    /// Where the entries stand.
    pub position: Option<Position>,
    /// The entries.
    pub entries: Vec<Arc<NodeEntry>>,
    /// SVIDs by entry.
    pub svids: Vec<(EntryId, Arc<HeldX509>)>,
    /// Bundles of other trust domains. The own one is kept with the node's identity.
    pub federated: Vec<Arc<Bundle>>,
}

/// Entries, SVIDs, bundles and tokens of this node, and the views that its callers have of them.
#[derive(Debug)]
pub struct Cache {
    position: Option<Position>,
    contact: Contact,
    entries: Entries,
    groups: Groups,
    attention: Attention,
    svids: BTreeMap<EntryId, Arc<HeldX509>>,
    /// By their ends, to notice them.
    ends: BTreeSet<(UnixTime, EntryId)>,
    /// Entries without an SVID for which signing failed at least once: callers wait for them no longer.
    failed: BTreeSet<EntryId>,
    renewals: Renewals<EntryId>,
    bundles: Bundles,
    tokens: Tokens,
    dirty: BTreeSet<GroupId>,
    changes: u64,
}

/// A JWT-SVID that a caller is to get.
#[derive(Debug)]
pub(super) struct TokenTarget {
    pub(super) entry_id: EntryId,
    pub(super) id: SpiffeId,
    pub(super) hint: Option<Hint>,
    pub(super) held: Option<(Arc<JwtSvid>, Age)>,
    pub(super) single_use: bool,
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
            ends: BTreeSet::new(),
            failed: BTreeSet::new(),
            renewals: Renewals::new(jitter),
            bundles: Bundles::new(own),
            tokens: Tokens::new(for_tokens),
            dirty: BTreeSet::new(),
            changes: 0,
        }
    }

    /// Takes up what was held before a restart. SVIDs that ended or whose entry has another name by now are left out.
    pub fn restore(&mut self, kept: Kept, now: UnixTime) {
        for bundle in kept.federated {
            self.bundles.put(&bundle, None);
        }
        for entry in kept.entries {
            self.attention.known(&entry.id, prefetched(&entry));
            self.entries.put(entry);
        }
        self.position = kept.position;
        for (entry_id, svid) in kept.svids {
            let current = self
                .entries
                .get(&entry_id)
                .filter(|entry| entry.spiffe_id == svid.id && svid.expires > now);
            if let Some(version) = current.map(|entry| entry.x509_version) {
                self.attention.was_held(&entry_id);
                self.hold(&entry_id, &svid);
                self.renewals.held(entry_id.clone(), validity(&svid), now);
                if svid.version < version {
                    self.renewals.want(entry_id, now);
                }
            }
        }
        self.settle(now);
    }

    /// What to keep over a restart.
    pub fn to_keep(&self) -> Kept {
        Kept {
            position: self.position,
            entries: self.entries.iter().cloned().collect(),
            svids: self
                .svids
                .iter()
                .map(|(id, svid)| (id.clone(), Arc::clone(svid)))
                .collect(),
            federated: self.bundles.federated().cloned().collect(),
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

    /// The server can be reached (again): what failed is tried now.
    pub fn server_is_back(&mut self, now: UnixTime) {
        self.renewals.hurry(now);
    }

    /// The clock was set or the machine slept.
    pub fn clock_was_set(&mut self, now: UnixTime) {
        self.renewals.clock_was_set(now);
    }

    /// Installs what the server says, wholly or not at all.
    ///
    /// Another store id is accepted whatever its revision: the server's store was made anew, and what came with it is the whole difference.
    pub fn install(&mut self, update: Update, now: UnixTime) -> Result<(), StaleUpdate> {
        if let Some(held) = self.position.filter(|held| !update.position.may_follow(held)) {
            return Err(StaleUpdate {
                held,
                offered: update.position,
            });
        }
        for id in &update.removals {
            self.remove(id);
        }
        for entry in update.upserts {
            self.upsert(entry, now);
        }
        self.position = Some(update.position);
        self.changes += 1;
        self.settle(now);
        Ok(())
    }

    /// Installs bundles and forgets those of trust domains that this node no longer has to do with.
    pub fn install_bundles(
        &mut self,
        store: StoreId,
        bundles: Vec<Bundle>,
        removed: &[TrustDomain],
        now: UnixTime,
    ) {
        let mut changed = BTreeSet::new();
        for bundle in bundles {
            let name = bundle.trust_domain().clone();
            if self.bundles.put(&Arc::new(bundle), Some(store)) {
                changed.insert(name);
            }
        }
        self.bundles.came_from(store);
        changed.extend(removed.iter().filter(|name| self.bundles.remove(name)).cloned());
        if !changed.is_empty() {
            self.changes += 1;
            // A view whose set did not change tells nothing new and is not sent.
            self.dirty.extend(self.groups.ids());
            self.settle(now);
        }
    }

    /// When [`Cache::due`] or [`Cache::tick`] will have something to do.
    pub fn next_wake(&self) -> Option<UnixTime> {
        [self.renewals.next_wake(), self.next_end()]
            .into_iter()
            .flatten()
            .min()
    }

    /// When the first SVID ends that is held now.
    pub fn next_end(&self) -> Option<UnixTime> {
        self.ends.first().map(|(at, _)| *at)
    }

    /// Counts what a copy on disk would have to follow.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// The node is entitled to nothing any more.
    pub fn forget_everything(&mut self, now: UnixTime) {
        let all: Vec<EntryId> = self.entries.iter().map(|entry| entry.id.clone()).collect();
        all.iter().for_each(|id| self.remove(id));
        self.position = None;
        self.settle(now);
    }

    /// Notices what ended and who left.
    pub fn tick(&mut self, now: UnixTime) {
        while let Some((_, id)) = self.ends.first().filter(|(at, _)| *at <= now).cloned() {
            self.drop_svid(&id);
            self.failed.insert(id.clone());
            self.dirty.extend(self.groups.of_entry(&id));
        }
        self.sweep();
        self.settle(now);
    }

    /// At most `limit` SVIDs that are to be signed now. Each needs a [`Cache::signed`].
    pub fn due(&mut self, now: UnixTime, limit: usize) -> Vec<SignOrder> {
        let mut orders = Vec::new();
        for entry_id in self.renewals.due(now, limit) {
            match self.entries.get(&entry_id) {
                Some(entry) => orders.push(SignOrder {
                    entry_id,
                    id: entry.spiffe_id.clone(),
                }),
                None => self.renewals.forget(&entry_id),
            }
        }
        orders
    }

    /// What became of orders.
    pub fn signed(&mut self, results: Vec<(EntryId, Result<HeldX509, SignFailure>)>, now: UnixTime) {
        for (entry_id, result) in results {
            // Whoever lost the entry or nobody's attention has no plan any more: the SVID is dropped unseen.
            let Some(entry) = self
                .entries
                .get(&entry_id)
                .filter(|_| self.renewals.knows(&entry_id))
            else {
                continue;
            };
            let outcome = match result {
                // Made under a name that the entry had before: it is not to be seen by anybody, and the new one is being made.
                Ok(svid) if svid.id != entry.spiffe_id => Outcome::Unreachable,
                Ok(svid) => {
                    let outcome = Outcome::Issued(validity(&svid));
                    if svid.expires > now {
                        self.hold(&entry_id, &Arc::new(svid));
                    }
                    outcome
                }
                Err(SignFailure::Unreachable) => Outcome::Unreachable,
                Err(SignFailure::Refused) => Outcome::Refused,
            };
            self.renewals.finished(&entry_id, outcome, now);
            if !self.svids.contains_key(&entry_id) {
                self.failed.insert(entry_id.clone());
            }
            self.dirty.extend(self.groups.of_entry(&entry_id));
        }
        self.settle(now);
    }

    /// The JWT-SVIDs that callers with `facts` may have for `audience`, those that are held with them. `id` leaves only one identity's.
    pub(super) fn token_targets(
        &mut self,
        facts: &Facts,
        id: Option<&SpiffeId>,
        audience: &[String],
        now: UnixTime,
    ) -> Vec<TokenTarget> {
        let identities = match self.groups.with_facts(facts) {
            Some(group) => group.view().identities.clone(),
            None => self.identities(&self.entries.matching(facts)),
        };
        let mut targets = Vec::new();
        for identity in identities
            .into_iter()
            .filter(|identity| id.is_none_or(|id| *id == identity.id))
        {
            let single_use = self
                .entries
                .get(&identity.entry_id)
                .is_some_and(|entry| entry.attributes.jwt_svid_include_jti);
            let held = if single_use {
                None
            } else {
                self.tokens.find(&identity.entry_id, audience, now)
            };
            let HeldIdentity {
                entry_id, id, hint, ..
            } = identity;
            targets.push(TokenTarget {
                entry_id,
                id,
                hint,
                held,
                single_use,
            });
        }
        targets
    }

    /// Keeps a token, unless its entry went or changed its name meanwhile. Whether it may still be handed out.
    pub(super) fn token_signed(
        &mut self,
        entry_id: &EntryId,
        audience: &[String],
        svid: &Arc<JwtSvid>,
        now: UnixTime,
    ) -> bool {
        let Some(entry) = self
            .entries
            .get(entry_id)
            .filter(|entry| entry.spiffe_id == *svid.id())
        else {
            return false;
        };
        if !entry.attributes.jwt_svid_include_jti {
            self.tokens.keep(entry_id, audience, Arc::clone(svid), now);
        }
        true
    }

    fn upsert(&mut self, entry: NodeEntry, now: UnixTime) {
        let id = entry.id.clone();
        let groups = if !entry.store_svid {
            self.groups.satisfying(&entry.selectors)
        } else {
            BTreeSet::new()
        };
        let (name, entry) = (entry.spiffe_id.clone(), Arc::new(entry));
        let before = self.entries.put(Arc::clone(&entry));
        if before.as_ref() == Some(&entry) {
            return;
        }
        self.tokens.forget(&id);
        let renamed = before.as_ref().is_some_and(|before| before.spiffe_id != name);
        // An SVID may have been made from the new version before the entry came here.
        let older = self
            .svids
            .get(&id)
            .is_none_or(|svid| svid.version < entry.x509_version);
        let remade =
            renamed || older && before.is_some_and(|before| before.x509_version != entry.x509_version);
        if renamed {
            self.drop_svid(&id);
        }
        self.attention.known(&id, prefetched(&entry));
        let (came, left) = self.groups.match_entry(&id, groups);
        self.dirty
            .extend(self.groups.of_entry(&id).chain(left.iter().copied()));
        came.iter().for_each(|_| self.attention.watch(&id));
        left.iter().for_each(|_| self.attention.unwatch(&id));
        if remade && self.renewals.knows(&id) {
            // What is held or being made was made for the entry as it was.
            self.renewals.want(id, now);
        }
    }

    fn remove(&mut self, id: &EntryId) {
        if self.entries.remove(id).is_none() {
            return;
        }
        self.changes += 1;
        self.tokens.forget(id);
        self.drop_svid(id);
        self.renewals.forget(id);
        self.attention.gone(id);
        let (_, left) = self.groups.match_entry(id, BTreeSet::new());
        self.dirty.extend(left);
    }

    fn hold(&mut self, id: &EntryId, svid: &Arc<HeldX509>) {
        self.drop_svid(id);
        self.changes += 1;
        self.ends.insert((svid.expires, id.clone()));
        self.svids.insert(id.clone(), Arc::clone(svid));
    }

    fn drop_svid(&mut self, id: &EntryId) {
        self.failed.remove(id);
        if let Some(svid) = self.svids.remove(id) {
            self.changes += 1;
            self.ends.remove(&(svid.expires, id.clone()));
        }
    }

    fn sweep(&mut self) {
        for entry in self.groups.sweep() {
            self.attention.unwatch(&entry);
        }
    }

    /// Acts on what the events changed: whose SVIDs are held, and what callers see.
    fn settle(&mut self, now: UnixTime) {
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

    fn view(&mut self, entries: &BTreeSet<EntryId>) -> WorkloadView {
        let identities = self.identities(entries);
        let entitled = !identities.is_empty();
        let signing =
            |identity: &HeldIdentity| identity.x509.is_none() && !self.failed.contains(&identity.entry_id);
        let ready = match self.contact {
            Contact::Awaited => entitled && identities.iter().all(|identity| identity.x509.is_some()),
            Contact::Settled => !identities.iter().any(signing),
        };
        WorkloadView::new(
            identities,
            bundles_of(&mut self.bundles, entries, &self.entries),
            entitled,
            ready,
        )
    }

    /// The identities that `entries` give, without those whose hint an older entry has too (Workload API 5.2.1).
    fn identities(&self, entries: &BTreeSet<EntryId>) -> Vec<HeldIdentity> {
        let entries: Vec<_> = entries.iter().filter_map(|id| self.entries.get(id)).collect();
        let mut oldest: BTreeMap<&Hint, (UnixTime, &EntryId)> = BTreeMap::new();
        for entry in &entries {
            if let Some(hint) = &entry.hint {
                let age = (entry.created_at, &entry.id);
                oldest
                    .entry(hint)
                    .and_modify(|oldest| *oldest = age.min(*oldest))
                    .or_insert(age);
            }
        }
        let shown = entries.into_iter().filter(|entry| {
            entry
                .hint
                .as_ref()
                .and_then(|hint| oldest.get(hint))
                .is_none_or(|(_, id)| **id == entry.id)
        });
        shown
            .map(|entry| HeldIdentity {
                entry_id: entry.id.clone(),
                id: entry.spiffe_id.clone(),
                hint: entry.hint.clone(),
                federates_with: entry.federates_with.clone(),
                x509: self.svids.get(&entry.id).cloned(),
            })
            .collect()
    }
}

fn bundles_of(bundles: &mut Bundles, ids: &BTreeSet<EntryId>, entries: &Entries) -> Arc<BundleSet> {
    let wanted = ids
        .iter()
        .filter_map(|id| entries.get(id))
        .flat_map(|entry| entry.federates_with.iter().cloned());
    bundles.set(&wanted.collect())
}

fn prefetched(entry: &NodeEntry) -> bool {
    !entry.attributes.disable_x509_svid_prefetch && !entry.store_svid
}

fn validity(svid: &HeldX509) -> Validity {
    Validity {
        received: svid.received,
        ends: svid.expires,
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
