//! What the Workload API needs of the cache.

use std::sync::Arc;

use async_trait::async_trait;
use muster_identity::{Facts, Selector, SpiffeId, TrustDomain};
use muster_pki::bundle::Bundle;
use tokio::sync::watch;

use crate::cache::{Handle, HeldJwt, JwtFetchError, WorkloadView};

/// What callers may have, by their facts.
#[async_trait]
pub trait Identities: Send + Sync + 'static {
    /// What callers with `facts` may have, now and later. The current value is always whole.
    fn subscribe(&self, facts: &Facts) -> watch::Receiver<Arc<WorkloadView>>;

    /// One token for each identity that callers with `facts` may have, or only for `id`'s.
    async fn jwt_svids(
        &self,
        facts: &Facts,
        id: Option<&SpiffeId>,
        audience: Vec<String>,
    ) -> Result<Vec<HeldJwt>, JwtFetchError>;

    /// The bundle of the own trust domain.
    fn own_bundle(&self) -> Arc<Bundle>;

    /// A token names a key that the bundle of this foreign trust domain lacks. There may be a newer bundle.
    fn met_unknown_key(&self, _trust_domain: &TrustDomain) {}

    /// Whether some entry would match if everything of which `unknown` is true were a fact too.
    fn could_match(&self, facts: &Facts, unknown: &dyn Fn(&Selector) -> bool) -> bool;
}

#[async_trait]
impl Identities for Handle {
    fn subscribe(&self, facts: &Facts) -> watch::Receiver<Arc<WorkloadView>> {
        self.subscribe(facts)
    }

    async fn jwt_svids(
        &self,
        facts: &Facts,
        id: Option<&SpiffeId>,
        audience: Vec<String>,
    ) -> Result<Vec<HeldJwt>, JwtFetchError> {
        self.jwt_svids(facts, id, audience).await
    }

    fn own_bundle(&self) -> Arc<Bundle> {
        self.own_bundle()
    }

    fn met_unknown_key(&self, trust_domain: &TrustDomain) {
        self.met_unknown_key(trust_domain);
    }

    fn could_match(&self, facts: &Facts, unknown: &dyn Fn(&Selector) -> bool) -> bool {
        self.could_match(facts, unknown)
    }
}
