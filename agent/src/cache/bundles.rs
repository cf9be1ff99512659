//! The bundles that this node holds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};

use muster_identity::{StoreId, TrustDomain};
use muster_pki::bundle::{Bundle, BundleSet, Scope, Succession};
use tracing::warn;

/// How many combinations of federated trust domains are remembered before those that nobody uses are looked for.
const FIRST_SWEEP: usize = 64;

/// The own bundle, those of other trust domains, and the combinations of them that views share.
#[derive(Debug)]
pub(super) struct Bundles {
    own: Arc<Bundle>,
    federated: BTreeMap<TrustDomain, (Arc<Bundle>, Scope)>,
    /// By the trust domains in it. Views with the same ones hold the same set, and know by its address that nothing changed.
    sets: BTreeMap<Vec<TrustDomain>, Weak<BundleSet>>,
    sweep_at: usize,
    /// Where the bundles came from last.
    store: Option<StoreId>,
}

impl Bundles {
    pub(super) fn new(own: Arc<Bundle>) -> Self {
        Self {
            own,
            federated: BTreeMap::new(),
            sets: BTreeMap::new(),
            sweep_at: FIRST_SWEEP,
            store: None,
        }
    }

    pub(super) fn own(&self) -> &Arc<Bundle> {
        &self.own
    }

    /// The foreign bundles, and what each trust domain is narrowed to.
    pub(super) fn federated(&self) -> impl Iterator<Item = &(Arc<Bundle>, Scope)> {
        self.federated.values()
    }

    /// Puts `bundle` in the place of the one of its trust domain. Whether that changed anything.
    ///
    /// An older one than what is held is kept out (I3), unless it comes from another store than the last ones did, or from none: then
    /// numbers can't be compared.
    pub(super) fn put(&mut self, bundle: &Arc<Bundle>, scope: &Scope, store: Option<StoreId>) -> bool {
        let trust_domain = bundle.trust_domain();
        let same_store = self.store.is_some() && self.store == store;
        let mut narrowed = false;
        let slot = if trust_domain == self.own.trust_domain() {
            Some(&mut self.own)
        } else {
            self.federated.get_mut(trust_domain).map(|(held, within)| {
                // The server's own word, which no number of the bundle's orders.
                narrowed = within != scope;
                *within = scope.clone();
                held
            })
        };
        match slot {
            Some(held) if **held == **bundle => {
                if narrowed {
                    self.forget_sets(bundle.trust_domain());
                }
                return narrowed;
            }
            Some(held) if same_store && held.compare_fetched(bundle) == Succession::Older => {
                warn!(trust_domain = %bundle.trust_domain(), held = held.sequence(), offered = bundle.sequence(), "an older bundle was kept out");
                if narrowed {
                    self.forget_sets(bundle.trust_domain());
                }
                return narrowed;
            }
            Some(held) => *held = Arc::clone(bundle),
            None => {
                let held = (Arc::clone(bundle), scope.clone());
                self.federated.insert(trust_domain.clone(), held);
            }
        }
        self.forget_sets(bundle.trust_domain());
        true
    }

    /// What comes from now on is newer than what is held only by its number.
    pub(super) fn came_from(&mut self, store: StoreId) {
        self.store = Some(store);
    }

    /// Forgets a foreign trust domain. The own bundle is never removed: without it nothing could be verified again.
    pub(super) fn remove(&mut self, trust_domain: &TrustDomain) -> bool {
        let removed = self.federated.remove(trust_domain).is_some();
        if removed {
            self.forget_sets(trust_domain);
        }
        removed
    }

    /// Forgets every foreign trust domain that `named` lacks: the server named all that concern this node. Answers which.
    pub(super) fn retain(&mut self, named: &BTreeSet<TrustDomain>) -> Vec<TrustDomain> {
        let gone: Vec<TrustDomain> = self
            .federated
            .keys()
            .filter(|held| !named.contains(*held))
            .cloned()
            .collect();
        gone.iter().for_each(|trust_domain| {
            self.remove(trust_domain);
        });
        gone
    }

    /// The own bundle and those of `wanted` that are held.
    pub(super) fn set(&mut self, wanted: &BTreeSet<TrustDomain>) -> Arc<BundleSet> {
        let held: Vec<TrustDomain> = wanted
            .iter()
            .filter(|name| self.federated.contains_key(*name))
            .cloned()
            .collect();
        if let Some(set) = self.sets.get(&held).and_then(Weak::upgrade) {
            return set;
        }
        let mut set = BundleSet::new(Arc::clone(&self.own));
        for (bundle, scope) in held.iter().filter_map(|name| self.federated.get(name)) {
            // Only the own trust domain is refused there, and it is not among the federated ones.
            set.put_scoped(Arc::clone(bundle), scope.clone()).ok();
        }
        let set = Arc::new(set);
        self.sets.insert(held, Arc::downgrade(&set));
        if self.sets.len() >= self.sweep_at {
            self.sets.retain(|_, set| set.strong_count() > 0);
            self.sweep_at = (self.sets.len() * 2).max(FIRST_SWEEP);
        }
        set
    }

    fn forget_sets(&mut self, changed: &TrustDomain) {
        let own = changed == self.own.trust_domain();
        self.sets.retain(|held, _| !own && !held.contains(changed));
    }
}
