//! What the authorities of the trust domain mean to the node itself: its certificate, its server, its bundle on disk.

use std::sync::Arc;

use muster_pki::bundle::{AuthorityStanding, Bundle, Succession};
use muster_runtime::Stop;
use tracing::{info, warn};

use super::link::{Explained, Link};
use super::link_error::LinkError;
use crate::attest::fetch_bundle;
use crate::cache::{Cache, gains_an_authority};
use crate::keep::NodeStoreError;
use crate::rotate::{Outcome, Validity, Worth};

impl Link {
    /// Takes the bundle that the cache holds now to disk and into use. Answers with the one before.
    pub(super) async fn learn_bundle(&mut self) -> Result<Arc<Bundle>, NodeStoreError> {
        let before = Arc::clone(&self.membership.state().bundle);
        self.membership.learn(self.handle.own_bundle()).await?;
        Ok(before)
    }

    /// The bundle is another than `before`: the node's own certificate follows its authority as every SVID does, and a server whose authority was revoked is one no more.
    pub(super) fn follow_authorities(&mut self, before: &Bundle) -> Result<(), LinkError> {
        let now = self.clock.now();
        match self.membership.own_authority() {
            AuthorityStanding::Tainted
                if self.membership.own_authority_in(before) == AuthorityStanding::Trusted =>
            {
                info!("the authority of the node's certificate is tainted; it is renewed");
                self.renewals.make_again(vec![()], 1, now);
            }
            AuthorityStanding::Tainted if gains_an_authority(before, &self.membership.state().bundle) => {
                self.renewals.hope(vec![()], 1, now);
            }
            // The connection it came by ends with it, and a new one begins with the node's proof.
            AuthorityStanding::Absent => self.renewals.want((), now),
            AuthorityStanding::Tainted | AuthorityStanding::Trusted => {}
        }
        match self.membership.servers_authority() {
            AuthorityStanding::Absent => Err(LinkError::Revoked),
            AuthorityStanding::Tainted | AuthorityStanding::Trusted => Ok(()),
        }
    }

    /// The authority of the node's certificate may have been revoked while the node was away. Anybody may ask a server for its bundle, and this one has proven itself by the
    /// bundle that is held: what it says then counts as if it had been pushed.
    pub(super) async fn look_at_bundle(&mut self, stop: &Stop) -> Result<Explained, LinkError> {
        let dial = self.membership.dial_as_nobody()?;
        let asked = async move { Ok::<_, LinkError>(fetch_bundle(dial.connect().await?).await?) };
        let Some(bundle) = self.meanwhile(stop, asked).await else {
            return Ok(Explained::No);
        };
        let bundle = Arc::new(bundle?);
        let held = self.handle.own_bundle();
        let own = self.membership.state().identity.as_ref();
        let above = own.and_then(|own| own.svid.authority_id());
        let revoked = above.is_some_and(|above| bundle.x509_standing(&above) == AuthorityStanding::Absent);
        if !revoked
            || bundle.trust_domain() != held.trust_domain()
            || held.compare_fetched(&bundle) == Succession::Older
        {
            return Ok(Explained::No);
        }
        warn!("the authority of the node's certificate was revoked while the node was away");
        self.handle.with(|cache, now| {
            if let Some(position) = cache.position() {
                cache.install_bundles(position.store, vec![Bundle::clone(&bundle)], &[], now);
            }
        });
        self.membership.learn(bundle).await?;
        Ok(Explained::Yes)
    }

    /// How many SVIDs are below a tainted authority still, the node's own among them.
    pub(super) fn outdated(&self) -> usize {
        let own = self.membership.own_authority() == AuthorityStanding::Tainted;
        self.handle.read(Cache::outdated) + usize::from(own)
    }

    /// The node has a new certificate.
    pub(super) async fn adopt(
        &mut self,
        svid: muster_pki::x509::X509Svid,
        key: &muster_pki::LocalKey,
    ) -> Result<(), LinkError> {
        let now = self.clock.now();
        let validity = Validity {
            received: now,
            ends: svid.not_after(),
        };
        self.membership.became(svid, key, now).await?;
        if self.renewals.knows(&()) {
            self.renewals.finished(&(), Outcome::Issued(validity), now);
        }
        self.renewals.held((), validity, now);
        let worth = match self.membership.own_authority() {
            AuthorityStanding::Tainted => Worth::Makeshift,
            AuthorityStanding::Absent | AuthorityStanding::Trusted => Worth::Good,
        };
        self.renewals.judge(&(), worth, now);
        self.metrics.renewals.inc();
        Ok(())
    }
}
