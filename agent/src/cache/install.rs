//! What the server says, taken in.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use muster_identity::{EntryId, Position, StoreId, TrustDomain, UnixTime};
use muster_pki::bundle::{Bundle, Scope};
use muster_proto::convert::NodeEntry;

use super::chains::authority_above;
use super::kept::prefetched;
use super::machine::Cache;
use super::signing::validity;
use super::view::HeldX509;

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

/// What the server said about bundles.
#[derive(Debug)]
pub struct BundleNews {
    /// The store that it comes from.
    pub store: StoreId,
    /// Bundles that are new or changed, and what each foreign trust domain is narrowed to.
    pub bundles: Vec<(Bundle, Scope)>,
    /// Trust domains that this node no longer has to do with.
    pub removed: Vec<TrustDomain>,
    /// Trust domains whose bundles count anew: an older number says nothing there.
    pub restored: BTreeSet<TrustDomain>,
    /// All that this node has to do with, when the server named them all: what else is held is forgotten.
    pub named: Option<BTreeSet<TrustDomain>>,
}

impl BundleNews {
    /// Bundles that are narrowed to nothing, and no more news than these.
    pub fn unnarrowed(store: StoreId, bundles: Vec<Bundle>) -> Self {
        let bundles = bundles.into_iter().map(|bundle| (bundle, Scope::all()));
        Self {
            store,
            bundles: bundles.collect(),
            removed: Vec::new(),
            restored: BTreeSet::new(),
            named: None,
        }
    }
}

/// The update is older than what is held, and nothing was changed (I3).
#[derive(Debug, thiserror::Error)]
#[error("the server's view at {offered} is older than ours at {held}")]
pub struct StaleUpdate {
    held: Position,
    offered: Position,
}

impl Cache {
    /// Installs what the server says, wholly or not at all.
    ///
    /// Another store id is accepted whatever its revision: the server's store was made anew, or it is a server of another kind, and what came with it is the whole
    /// difference. What is held then stays in use and is made again: numbers of two stores say nothing of each other. An identity that has another entry there keeps
    /// its SVID too, until the new one is signed (I11).
    pub fn install(&mut self, update: Update, now: UnixTime) -> Result<(), StaleUpdate> {
        if let Some(held) = self.position.filter(|held| !update.position.may_follow(held)) {
            return Err(StaleUpdate {
                held,
                offered: update.position,
            });
        }
        let moved = self
            .position
            .is_some_and(|held| held.store != update.position.store);
        let mut left = HashMap::new();
        for id in &update.removals {
            if moved && let Some(svid) = self.svids.get(id) {
                left.insert(svid.id.clone(), Arc::clone(svid));
            }
            self.remove(id);
        }
        for entry in update.upserts {
            let id = entry.id.clone();
            let heir = left.get(&entry.spiffe_id).filter(|_| !entry.store_svid).cloned();
            self.upsert(entry, now);
            if let Some(svid) = heir {
                self.inherit(&id, &svid, now);
            }
        }
        self.position = Some(update.position);
        if moved {
            for id in self.svids.keys() {
                self.renewals.want(id.clone(), now);
                self.of_other_store.insert(id.clone());
            }
        }
        self.changes += 1;
        self.settle(now);
        Ok(())
    }

    /// What was held under an entry that is gone goes over to the one that gives the same identity now.
    fn inherit(&mut self, id: &EntryId, svid: &Arc<HeldX509>, now: UnixTime) {
        if self.svids.contains_key(id) || svid.expires <= now {
            return;
        }
        self.attention.was_held(id);
        self.hold(id, svid, authority_above(svid));
        self.renewals.held(id.clone(), validity(svid), now);
    }

    /// Installs bundles and forgets those of trust domains that this node no longer has to do with.
    pub fn install_bundles(
        &mut self,
        store: StoreId,
        bundles: Vec<Bundle>,
        removed: &[TrustDomain],
        now: UnixTime,
    ) {
        let news = BundleNews {
            removed: removed.to_vec(),
            ..BundleNews::unnarrowed(store, bundles)
        };
        self.install_bundle_news(news, now);
    }

    /// Installs all that the server said about bundles.
    pub fn install_bundle_news(&mut self, news: BundleNews, now: UnixTime) {
        let (mut changed, before) = (BTreeSet::new(), Arc::clone(self.bundles.own()));
        for (bundle, scope) in news.bundles {
            let name = bundle.trust_domain().clone();
            let comparable = (!news.restored.contains(&name)).then_some(news.store);
            if self.bundles.put(&Arc::new(bundle), &scope, comparable) {
                changed.insert(name);
            }
        }
        self.bundles.came_from(news.store);
        if !Arc::ptr_eq(&before, self.bundles.own()) {
            self.follow_authorities(&before, now);
        }
        changed.extend(
            news.removed
                .iter()
                .filter(|name| self.bundles.remove(name))
                .cloned(),
        );
        if let Some(named) = &news.named {
            changed.extend(self.bundles.retain(named));
        }
        if !changed.is_empty() {
            self.changes += 1;
            // A view whose set did not change tells nothing new and is not sent.
            self.dirty.extend(self.groups.ids());
            self.settle(now);
        }
    }

    /// The node is entitled to nothing any more.
    pub fn forget_everything(&mut self, now: UnixTime) {
        let all: Vec<EntryId> = self.entries.iter().map(|entry| entry.id.clone()).collect();
        all.iter().for_each(|id| self.remove(id));
        self.position = None;
        self.settle(now);
    }

    pub(super) fn upsert(&mut self, entry: NodeEntry, now: UnixTime) {
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
        let older = self.of_other_store.contains(&id)
            || self
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

    pub(super) fn remove(&mut self, id: &EntryId) {
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
}
