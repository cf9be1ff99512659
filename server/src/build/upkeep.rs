//! The tasks that keep what the server serves, from the beginning to the stop.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;

use muster_identity::UnixTime;

use super::BuildError;
use super::ground::Ground;
use crate::api::Context;
use crate::ca::{Commands, Follower, Keeper, ServerSvid};
use crate::config::Config;
use crate::federation::Refresher;
use crate::nodes;
use crate::publish::{publish, publishers};
use crate::registry::prune;
use crate::watch::watch_audit;

/// Tasks that were made on the way, not yet running.
pub(super) struct Upkeep {
    pub(super) keeper: Keeper,
    pub(super) commands: Commands,
    pub(super) server_svid: ServerSvid,
    pub(super) renewal_due: UnixTime,
    pub(super) refresher: Refresher,
}

impl Upkeep {
    /// Starts them, and those that need nothing but the server itself.
    pub(super) fn start(
        self,
        config: &Config,
        ground: &Ground,
        context: &Arc<Context>,
    ) -> Result<(), BuildError> {
        let (front, readiness) = (&ground.front, &ground.readiness);
        let stop = || ground.front_stop.clone();
        let (registry, bundles, audit) = (&context.registry, &context.bundles, &context.audit);

        let standing = readiness.condition("authorities");
        front.spawn("authorities", self.keeper.run(self.commands, standing, stop()));
        let standing = readiness.condition("certificate");
        let renewing = self
            .server_svid
            .run(self.renewal_due, bundles.clone(), standing, stop());
        front.spawn("certificate", renewing);
        for publisher in publishers(&config.publishers, &context.clock)? {
            let publishing = publish(publisher, bundles.clone(), readiness.clone(), stop());
            front.spawn("bundle publisher", publishing);
        }
        if let Some(upstream) = context.upstream.clone() {
            let follower = Follower {
                upstream,
                trust_domain: config.trust_domain.clone(),
                registry: registry.clone(),
                bundles: bundles.clone(),
                audit: audit.clone(),
                clock: Arc::clone(&context.clock),
            };
            front.spawn("upstream", follower.run(stop()));
        }
        front.spawn("bundles", bundles.clone().follow(registry.clone(), stop()));
        front.spawn("federation", self.refresher.run(readiness.clone(), stop()));
        let clock = || Arc::clone(&context.clock);
        let pruning = prune(registry.clone(), audit.clone(), clock(), stop());
        front.spawn("pruning", without_failure(pruning));
        let forgetting = nodes::prune(registry.clone(), audit.clone(), clock(), config.pruning, stop());
        front.spawn("nodes long gone", without_failure(forgetting));
        let standing = readiness.condition("audit");
        front.spawn("audit", watch_audit(audit.clone(), standing, stop()));
        Ok(())
    }
}

async fn without_failure(task: impl Future<Output = ()>) -> Result<(), Infallible> {
    task.await;
    Ok(())
}
