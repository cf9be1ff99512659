//! What happened to authorities, counted; the names are SPIRE's where it counts the same.

use muster_identity::UnixTime;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Kind;
use super::life::Order;

/// Counts what the keeper does.
#[derive(Clone, Debug, Default)]
pub struct CaMeter {
    x509: Counts,
    jwt: Counts,
    failed: Counter,
    x509_ends: Gauge,
}

#[derive(Clone, Debug, Default)]
struct Counts {
    prepared: Counter,
    activated: Counter,
    tainted: Counter,
    revoked: Counter,
    pruned: Counter,
}

impl CaMeter {
    /// Registers the metrics.
    pub fn register(registry: &mut Registry) -> Self {
        let own = Self::default();
        let mut counter = |name, help, counter: &Counter| registry.register(name, help, counter.clone());
        let Self { x509, jwt, .. } = &own;
        counter(
            "ca_manager_x509_ca_prepare",
            "X.509 authorities that were made",
            &x509.prepared,
        );
        counter(
            "ca_manager_x509_ca_activate",
            "X.509 authorities that began to sign",
            &x509.activated,
        );
        counter(
            "ca_manager_x509_ca_taint",
            "X.509 authorities that were tainted",
            &x509.tainted,
        );
        counter(
            "ca_manager_x509_ca_revoke",
            "X.509 authorities that were revoked",
            &x509.revoked,
        );
        counter(
            "ca_manager_x509_ca_prune",
            "X.509 authorities that left the bundle after their end",
            &x509.pruned,
        );
        counter(
            "ca_manager_jwt_key_prepare",
            "token-signing keys that were made",
            &jwt.prepared,
        );
        // SPIRE has no `ca` in this one.
        counter(
            "manager_jwt_key_activate",
            "token-signing keys that began to sign",
            &jwt.activated,
        );
        counter(
            "ca_manager_jwt_key_taint",
            "token-signing keys that were tainted",
            &jwt.tainted,
        );
        counter(
            "ca_manager_jwt_key_revoke",
            "token-signing keys that were revoked",
            &jwt.revoked,
        );
        counter(
            "ca_manager_jwt_key_prune",
            "token-signing keys that left the bundle after their end",
            &jwt.pruned,
        );
        counter(
            "ca_manager_failed",
            "orders about authorities that could not be carried out and are tried again",
            &own.failed,
        );
        registry.register(
            "manager_x509_ca_rotate_expiration",
            "When the X.509 authority that signs ends, in Unix time",
            own.x509_ends.clone(),
        );
        own
    }

    /// Counts an order that was carried out.
    pub(super) fn carried_out(&self, kind: Kind, order: &Order) {
        let counts = match kind {
            Kind::X509 => &self.x509,
            Kind::Jwt => &self.jwt,
        };
        let counter = match order {
            Order::Prepare => &counts.prepared,
            Order::Activate(_) => &counts.activated,
            Order::Taint(_) => &counts.tainted,
            Order::Revoke(_) => &counts.revoked,
            Order::Prune(_) => &counts.pruned,
            Order::Discard(_) | Order::Retire(_) => return,
        };
        counter.inc();
    }

    /// Counts one that was not.
    pub(super) fn failed(&self) {
        self.failed.inc();
    }

    /// The X.509 authority that signs now ends then.
    pub(super) fn x509_ends(&self, at: UnixTime) {
        self.x509_ends.set(at.as_secs());
    }
}
