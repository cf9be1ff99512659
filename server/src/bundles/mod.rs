//! The bundles as the log has them, decoded once: our own with its sequence and refresh hint, and those of trust domains that we federate with.
//!
//! The log is the truth. [`Bundles`] follows it and gives everybody the same decoded value: TLS verification, the streams to nodes, the bundle service.

mod peers;
mod record;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use muster_identity::{Revision, TrustDomain};
use muster_pki::bundle::{Bundle, BundleSet};
use muster_runtime::Stop;
use tokio::sync::watch;
use tracing::{error, info};

pub(crate) use peers::PeerTrust;
pub use record::{
    BundleRecordError, MOST_KEYS, TooLarge, bundle_from_bytes, bundle_to_bytes, federated_to_bytes,
};

use crate::federation::Peers;
use crate::registry::{Document, Registry, View};
use crate::store::Tree;

/// Bundles by trust domain, and at which revision of its record each was decoded.
type Decoded = BTreeMap<TrustDomain, (Revision, Arc<Bundle>)>;

/// The bundles of the moment. Clones share them.
#[derive(Clone, Debug)]
pub struct Bundles {
    trust_domain: TrustDomain,
    peers: Peers,
    set: Arc<ArcSwap<BundleSet>>,
    /// Each record as it was decoded last; the own one too. Locked for the length of a refresh.
    decoded: Arc<Mutex<Decoded>>,
    version: watch::Sender<Revision>,
    own_version: watch::Sender<Revision>,
}

impl Bundles {
    /// Reads the bundles out of `view`. Without one in the log, our own is empty.
    pub fn read(trust_domain: TrustDomain, view: &View) -> Result<Self, BundleRecordError> {
        Self::read_with(trust_domain, Peers::default(), view)
    }

    /// The same, narrowed by what `peers` says of each trust domain.
    pub fn read_with(
        trust_domain: TrustDomain,
        peers: Peers,
        view: &View,
    ) -> Result<Self, BundleRecordError> {
        let own = Arc::new(Bundle::new(trust_domain.clone()));
        let set = Arc::new(ArcSwap::from_pointee(BundleSet::new(own)));
        let bundles = Self {
            trust_domain,
            peers,
            set,
            decoded: Arc::default(),
            version: watch::Sender::new(Revision::default()),
            own_version: watch::Sender::new(Revision::default()),
        };
        bundles.refresh(view)?;
        Ok(bundles)
    }

    /// All bundles.
    pub fn set(&self) -> Arc<BundleSet> {
        self.set.load_full()
    }

    /// Our own bundle.
    pub fn own(&self) -> Arc<Bundle> {
        Arc::clone(self.set.load().own())
    }

    /// The cell that TLS verifiers look into at each handshake.
    pub fn cell(&self) -> Arc<ArcSwap<BundleSet>> {
        Arc::clone(&self.set)
    }

    /// Follows the revision at which our own bundle last changed.
    pub fn watch(&self) -> watch::Receiver<Revision> {
        self.own_version.subscribe()
    }

    /// Follows the revision at which any bundle, or what a peer is narrowed to, last changed.
    pub fn watch_all(&self) -> watch::Receiver<Revision> {
        self.version.subscribe()
    }

    /// Takes over what `view` has. Called after a commit by whoever needs the result at once, and by [`Bundles::follow`].
    pub fn refresh(&self, view: &View) -> Result<(), BundleRecordError> {
        let changed = [Tree::Bundles, Tree::Relationships].map(|tree| view.changed_at(tree));
        let changed = changed.into_iter().max().unwrap_or_default();
        // Compared and set under the watch's lock: an older view never overwrites a newer one (I3).
        let mut failed = None;
        self.version.send_if_modified(|version| {
            if changed <= *version {
                return false;
            }
            match self.decode(view) {
                Ok(set) => {
                    self.set.store(Arc::new(set));
                    *version = changed;
                    let own = view.document(Tree::Bundles, self.trust_domain.as_str().as_bytes());
                    let own = own.map(|own| own.version).unwrap_or_default();
                    self.own_version
                        .send_if_modified(|version| std::mem::replace(version, own) != own);
                    true
                }
                Err(error) => {
                    failed = Some(error);
                    false
                }
            }
        });
        failed.map_or(Ok(()), Err)
    }

    /// The set that `view` holds. A foreign record that can't be read takes nothing from the others: it stays as it was read before, or out.
    fn decode(&self, view: &View) -> Result<BundleSet, BundleRecordError> {
        let mut decoded = self.decoded.lock().unwrap_or_else(PoisonError::into_inner);
        let own = match view.document(Tree::Bundles, self.trust_domain.as_str().as_bytes()) {
            Some(document) => take(&mut decoded, &self.trust_domain, document)?,
            None => Arc::new(Bundle::new(self.trust_domain.clone())),
        };
        let mut set = BundleSet::new(own);
        let mut peers = self.peers.all(view);
        let mut there = BTreeSet::from([self.trust_domain.clone()]);
        for (name, document) in view.documents(Tree::Bundles) {
            let name = std::str::from_utf8(name)
                .ok()
                .and_then(|name| name.parse::<TrustDomain>().ok());
            let Some(name) = name.filter(|name| *name != self.trust_domain) else {
                continue;
            };
            let bundle = match take(&mut decoded, &name, document) {
                Ok(bundle) => Some(bundle),
                Err(error) => {
                    error!(trust_domain = %name, error = &error as &dyn std::error::Error, "a federated bundle in the log can't be read");
                    decoded.get(&name).map(|(_, bundle)| Arc::clone(bundle))
                }
            };
            let peer = peers.remove(&name).map(|peer| peer.relationship);
            let revoked = peer.as_ref().is_some_and(|peer| peer.revoked_at.is_some());
            if let Some(mut bundle) = bundle {
                if revoked {
                    // Whatever its record says: nothing of the trust domain verifies until it is released.
                    bundle = Arc::new(Bundle::new(name.clone()));
                }
                let scope = peer.map(|peer| peer.scope).unwrap_or_default();
                // The own trust domain alone is refused there.
                set.put_scoped(bundle, scope).ok();
            }
            there.insert(name);
        }
        decoded.retain(|name, _| there.contains(name));
        Ok(set)
    }

    /// Follows the log until the stop is ordered.
    pub async fn follow(self, registry: Registry, stop: Stop) -> Result<(), BundleRecordError> {
        let mut changes = registry.subscribe();
        let mut seen = self.own().sequence();
        loop {
            if let Err(error) = self.refresh(&registry.view()) {
                // What was read before stays; a bundle is never replaced by a guess.
                error!(
                    error = &error as &dyn std::error::Error,
                    "the log holds a bundle that can't be read"
                );
            }
            let sequence = self.own().sequence();
            if sequence != seen {
                seen = sequence;
                info!(sequence, "bundle changed");
            }
            tokio::select! {
                () = stop.ordered() => return Ok(()),
                changed = changes.changed() => if changed.is_err() { return Ok(()) },
            }
        }
    }
}

/// The bundle of a record, decoded at most once.
fn take(
    decoded: &mut Decoded,
    name: &TrustDomain,
    document: &Document,
) -> Result<Arc<Bundle>, BundleRecordError> {
    if let Some((version, bundle)) = decoded.get(name)
        && *version == document.version
    {
        return Ok(Arc::clone(bundle));
    }
    let bundle = bundle_from_bytes(&document.value)?;
    if bundle.trust_domain() != name {
        return Err(BundleRecordError::Name(bundle.trust_domain().clone()));
    }
    let bundle = Arc::new(bundle);
    decoded.insert(name.clone(), (document.version, Arc::clone(&bundle)));
    Ok(bundle)
}

#[cfg(test)]
mod tests;
