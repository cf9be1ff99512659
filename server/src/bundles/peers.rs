//! Whether peers that were let in still count, when the bundles have changed.

use std::fmt;
use std::future::pending;
use std::sync::Arc;

use muster_pki::bundle::BundleSet;
use muster_pki::x509::verify_x509_svid;
use muster_runtime::Clock;
use muster_transport::{Lost, Trust};
use rustls::pki_types::CertificateDer;

use super::Bundles;

/// Judges peers by the bundles of the moment, as their handshakes were.
pub(crate) struct PeerTrust {
    bundles: Bundles,
    clock: Arc<dyn Clock>,
}

impl PeerTrust {
    pub(crate) fn new(bundles: Bundles, clock: Arc<dyn Clock>) -> Self {
        Self { bundles, clock }
    }
}

impl Trust for PeerTrust {
    fn lost(&self, chain: Arc<[CertificateDer<'static>]>) -> Lost {
        let (bundles, clock) = (self.bundles.clone(), Arc::clone(&self.clock));
        // Followed from here on; what changed during the handshake is found by the look before the first wait.
        let mut changes = bundles.watch_all();
        Box::pin(async move {
            loop {
                let set = bundles.set();
                let Ok(peer) = verify_x509_svid(&chain, &set, clock.now()) else {
                    return;
                };
                // A bundle of another trust domain is none of this peer's business: thousands of them are not verified anew for it.
                let name = peer.id().trust_domain();
                let standing = |set: &BundleSet| (set.get(name).cloned(), set.scope(name).cloned());
                let before = standing(&set);
                loop {
                    if changes.changed().await.is_err() {
                        pending::<()>().await;
                    }
                    if standing(&bundles.set()) != before {
                        break;
                    }
                }
            }
        })
    }
}

impl fmt::Debug for PeerTrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PeerTrust")
    }
}
