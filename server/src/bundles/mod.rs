//! The bundles as the log has them, decoded once: our own with its sequence and refresh hint, later also federated ones.
//!
//! The log is the truth. [`Bundles`] follows it and gives everybody the same decoded value: TLS verification, the streams to nodes, the bundle service.

mod peers;
mod record;

use std::sync::Arc;

use arc_swap::ArcSwap;
use muster_identity::{Revision, TrustDomain};
use muster_pki::bundle::{Bundle, BundleSet};
use muster_runtime::Stop;
use tokio::sync::watch;
use tracing::{error, info};

pub(crate) use peers::PeerTrust;
pub use record::{BundleRecordError, bundle_from_bytes, bundle_to_bytes};

use crate::registry::{Registry, View};
use crate::store::Tree;

/// The bundles of the moment. Clones share them.
#[derive(Clone, Debug)]
pub struct Bundles {
    trust_domain: TrustDomain,
    set: Arc<ArcSwap<BundleSet>>,
    version: watch::Sender<Revision>,
}

impl Bundles {
    /// Reads the bundles out of `view`. Without one in the log, our own is empty.
    pub fn read(trust_domain: TrustDomain, view: &View) -> Result<Self, BundleRecordError> {
        let own = Arc::new(Bundle::new(trust_domain.clone()));
        let set = Arc::new(ArcSwap::from_pointee(BundleSet::new(own)));
        let bundles = Self {
            trust_domain,
            set,
            version: watch::Sender::new(Revision::default()),
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
        self.version.subscribe()
    }

    /// Takes over what `view` has. Called after a commit by whoever needs the result at once, and by [`Bundles::follow`].
    pub fn refresh(&self, view: &View) -> Result<(), BundleRecordError> {
        let Some(document) = view.document(Tree::Bundles, self.trust_domain.as_str().as_bytes()) else {
            return Ok(());
        };
        // Compared and set under the watch's lock: an older view never overwrites a newer one (I3).
        let mut failed = None;
        self.version.send_if_modified(|version| {
            if document.version <= *version {
                return false;
            }
            match bundle_from_bytes(&document.value) {
                Ok(bundle) => {
                    self.set.store(Arc::new(BundleSet::new(Arc::new(bundle))));
                    *version = document.version;
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

    /// Follows the log until the stop is ordered.
    pub async fn follow(self, registry: Registry, stop: Stop) -> Result<(), BundleRecordError> {
        let mut changes = registry.subscribe();
        let mut seen = *self.watch().borrow();
        loop {
            if let Err(error) = self.refresh(&registry.view()) {
                // What was read before stays; a bundle is never replaced by a guess.
                error!(
                    error = &error as &dyn std::error::Error,
                    "the log holds a bundle that can't be read"
                );
            }
            let version = *self.version.borrow();
            if version != seen {
                seen = version;
                info!(sequence = self.own().sequence(), "bundle changed");
            }
            tokio::select! {
                () = stop.ordered() => return Ok(()),
                changed = changes.changed() => if changed.is_err() { return Ok(()) },
            }
        }
    }
}
