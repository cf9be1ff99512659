//! What is counted about the connection and the cache.

use muster_runtime::metrics::Metrics;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use crate::cache::Cache;

/// Numbers for operators. Where SPIRE counts the same thing, the name is SPIRE's.
#[derive(Clone, Debug, Default)]
pub struct LinkMetrics {
    /// 1 while the server is connected.
    pub(super) connected: Gauge,
    /// Updates of entries that were installed.
    pub(super) updates: Counter,
    /// Certificates of the node itself.
    pub(super) renewals: Counter,
    /// X.509-SVIDs and tokens that the server signed for us, and those that it did not.
    pub(super) signed: Counter,
    pub(super) not_signed: Counter,
    entries: Gauge,
    x509_svids: Gauge,
    jwt_svids: Gauge,
    overdue: Gauge,
    tainted_x509_svids: Counter,
    tainted_jwt_svids: Counter,
    /// How many seconds this machine's clock is behind the server's.
    pub(super) clock_behind: Gauge,
}

impl LinkMetrics {
    /// Registers them.
    pub fn register(metrics: &Metrics) -> Self {
        let own = Self::default();
        metrics.register(|registry| {
            let mut gauge = |name, help, gauge: &Gauge| registry.register(name, help, gauge.clone());
            gauge(
                "server_connected",
                "1 while the server is connected",
                &own.connected,
            );
            gauge("lru_cache_record_map_size", "entries of this node", &own.entries);
            gauge("lru_cache_svid_map_size", "X.509-SVIDs held", &own.x509_svids);
            gauge("jwt_svid_cache_size", "JWT-SVIDs held", &own.jwt_svids);
            gauge(
                "svids_overdue",
                "SVIDs whose renewal has failed at least once",
                &own.overdue,
            );
            gauge(
                "clock_behind_seconds",
                "how far this clock is behind the server's",
                &own.clock_behind,
            );
            let mut counter = |name, help, counter: &Counter| registry.register(name, help, counter.clone());
            counter(
                "sync_updates",
                "updates of entries that were installed",
                &own.updates,
            );
            counter(
                "agent_svid_rotate",
                "certificates of the node itself",
                &own.renewals,
            );
            counter("svids_signed", "SVIDs that the server signed", &own.signed);
            counter(
                "cache_manager_tainted_x509_svids_workload",
                "X.509-SVIDs that a tainted or revoked authority made obsolete",
                &own.tainted_x509_svids,
            );
            counter(
                "cache_manager_tainted_jwt_svids_workload",
                "JWT-SVIDs that a tainted or revoked authority made obsolete",
                &own.tainted_jwt_svids,
            );
            counter(
                "svids_not_signed",
                "SVIDs that the server was asked for and did not sign",
                &own.not_signed,
            );
        });
        own
    }

    /// Takes the sizes of the cache.
    pub(super) fn measure(&self, cache: &Cache) {
        let [entries, x509_svids, jwt_svids, _] = cache.sizes();
        let (overdue, _) = cache.overdue();
        let totals = cache.outdated_totals();
        for (counter, total) in [
            (&self.tainted_x509_svids, totals.x509),
            (&self.tainted_jwt_svids, totals.jwt),
        ] {
            counter.inc_by(total.saturating_sub(counter.get()));
        }
        let pairs = [
            (&self.entries, entries),
            (&self.x509_svids, x509_svids),
            (&self.jwt_svids, jwt_svids),
            (&self.overdue, overdue),
        ];
        for (gauge, size) in pairs {
            gauge.set(i64::try_from(size).unwrap_or(i64::MAX));
        }
    }
}
