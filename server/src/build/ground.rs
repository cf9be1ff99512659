//! What every part of the server stands on: time, tasks, readiness, metrics; and the records.

use std::sync::Arc;

use muster_audit::Audit;
use muster_runtime::metrics::Metrics;
use muster_runtime::{Clock, Readiness, Stop, Tasks};

use super::BuildError;
use crate::api::Context;
use crate::api::meter::Counts;
use crate::bundles::Bundles;
use crate::config::Config;
use crate::federation::{Federation, Fetcher, Peers, Refresher, take_first_bundles};
use crate::registry::Registry;
use crate::store::journal_and_sled::Opened;
use crate::watch::watch_store;
use crate::web::WebRoots;

/// Neither configured nor kept.
pub(super) struct Ground {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) readiness: Readiness,
    pub(super) metrics: Metrics,
    /// What is stopped first.
    pub(super) front: Tasks,
    /// What is stopped when nothing in front runs any more.
    pub(super) back: Tasks,
    pub(super) front_stop: Stop,
    pub(super) back_stop: Stop,
}

/// What is registered, and the bundles that are read of it.
pub(super) struct Records {
    pub(super) registry: Registry,
    pub(super) bundles: Bundles,
    peers: Peers,
}

impl Ground {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        let (front_stop, back_stop) = (Stop::new(), Stop::new());
        Self {
            clock,
            readiness: Readiness::new(),
            metrics: Metrics::new("muster_server"),
            front: Tasks::new(front_stop.clone()),
            back: Tasks::new(back_stop.clone()),
            front_stop,
            back_stop,
        }
    }

    /// Shows in the metrics what is counted when somebody asks.
    pub(super) fn count(&self, context: &Arc<Context>) {
        let counts = Counts::new(context);
        let statuses = context.federation.statuses().clone();
        self.metrics
            .register(|registry| registry.register_collector(Box::new(counts)));
        self.metrics
            .register(|registry| registry.register_collector(Box::new(statuses)));
    }
}

impl Records {
    /// Opens the registry on the store, and reads the bundles.
    pub(super) fn open(config: &Config, ground: &Ground, opened: Opened) -> Result<Self, BuildError> {
        let store = Arc::new(opened.store);
        let (readiness, stop) = (ground.readiness.clone(), ground.front_stop.clone());
        let lag = watch_store(Arc::downgrade(&store), readiness, stop);
        ground.front.spawn("store", lag);
        let (registry, committer) = Registry::open(store, config.trust_domain.clone(), opened.records)?;
        ground
            .back
            .spawn("registry", committer.run(ground.back_stop.clone()));
        let configured = config.federation.peers.iter();
        let peers = Peers::new(configured.map(|peer| peer.relationship.clone()));
        let bundles = Bundles::read_with(config.trust_domain.clone(), peers.clone(), &registry.view())?;
        Ok(Self {
            registry,
            bundles,
            peers,
        })
    }

    /// Takes the bundles that are configured to begin with; the task that fetches the next ones, and the handle on it.
    pub(super) async fn follow_peers(
        &self,
        config: &Config,
        ground: &Ground,
        audit: &Audit,
    ) -> Result<(Refresher, Federation), BuildError> {
        let told = &config.federation;
        take_first_bundles(&told.peers, &self.registry, &self.bundles, audit).await?;
        let roots = WebRoots::open(told.ca_file.as_deref())?;
        let fetcher = Fetcher::new(told.addresses, roots, config.trust_domain.clone());
        Ok(Refresher::new(
            fetcher,
            self.registry.clone(),
            self.bundles.clone(),
            self.peers.clone(),
            audit.clone(),
            Arc::clone(&ground.clock),
        ))
    }
}
