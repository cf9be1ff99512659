//! Carries out what [`life`] orders: the one task that makes, activates and removes authorities.

use std::error::Error;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use muster_audit::Audit;
use muster_identity::{Lifetime, TrustDomain, UnixTime};
use muster_pki::KeyAlgorithm;
use muster_pki::x509::Name;
use muster_plugin_api::KeyManager;
use muster_runtime::{Backoff, Clock, Condition, Stop};
use tracing::error;

use super::life::{self, Authority, Order, Spread};
use super::record::{AuthorityRecord, Kind};
use super::sign::Ca;
use crate::bundles::Bundles;
use crate::registry::Registry;
use crate::store::Tree;
use crate::sync::Connections;

mod error;
mod load;
mod orders;

pub use error::KeeperError;

/// The first and the longest wait after a failure.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// What authorities are to be.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Whose they are.
    pub trust_domain: TrustDomain,
    /// The name that certificates of authorities bear.
    pub subject: Name,
    /// How long an authority lives.
    pub lifetime: Lifetime,
    /// The key that signs certificates.
    pub x509_key: KeyAlgorithm,
    /// The key that signs tokens.
    pub jwt_key: KeyAlgorithm,
    /// What verifiers are told about how often to fetch the bundle.
    pub refresh_hint: Duration,
}

/// The task that keeps the authorities.
pub struct Keeper {
    pub(crate) terms: Terms,
    pub(crate) ca: Ca,
    pub(crate) keys: Arc<dyn KeyManager>,
    pub(crate) registry: Registry,
    pub(crate) bundles: Bundles,
    pub(crate) connections: Connections,
    pub(crate) audit: Audit,
    pub(crate) clock: Arc<dyn Clock>,
}

/// When there may be something to do again.
#[derive(Clone, Copy, Debug)]
struct Next {
    /// At this time.
    wake: UnixTime,
    /// Or earlier, once every connected node holds the bundle of this sequence number.
    awaits: Option<u64>,
}

impl Keeper {
    /// Does what is due now, so that afterwards both authorities sign or an error says why not. Called once before the doors open, when no node is
    /// connected that would have to be waited for.
    pub async fn start(&self) -> Result<(), KeeperError> {
        self.turn().await?;
        self.forget_stray_keys().await
    }

    /// Keeps the authorities until the stop is ordered. `standing` says whether it succeeds.
    pub async fn run(self, standing: Condition, stop: Stop) -> Result<(), std::convert::Infallible> {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        loop {
            let next = match self.turn().await {
                Ok(next) => {
                    standing.holds();
                    backoff.reset();
                    next
                }
                Err(error) => {
                    let wait = backoff.next_wait();
                    let error = &error as &dyn Error;
                    error!(error, retry_in = ?wait, "an authority could not be kept; what is valid goes on signing");
                    standing.fails(format!("an authority could not be kept: {error}"));
                    Next {
                        wake: self.clock.now().saturating_add(wait.max(Duration::from_secs(1))),
                        awaits: None,
                    }
                }
            };
            tokio::select! {
                () = stop.ordered() => return Ok(()),
                () = self.clock.sleep_until(next.wake) => {}
                () = self.held_everywhere(next.awaits) => {}
            }
        }
    }

    /// Carries out every order that is due, for both kinds.
    async fn turn(&self) -> Result<Next, KeeperError> {
        let x509 = self.turn_of(Kind::X509).await?;
        let jwt = self.turn_of(Kind::Jwt).await?;
        Ok(Next {
            wake: x509.wake.min(jwt.wake),
            // The later bundle holds what the earlier one does.
            awaits: x509.awaits.max(jwt.awaits),
        })
    }

    async fn turn_of(&self, kind: Kind) -> Result<Next, KeeperError> {
        let lifetimes = self.ca.lifetimes();
        let longest = match kind {
            Kind::X509 => lifetimes.max_x509_svid,
            Kind::Jwt => lifetimes.max_jwt_svid,
        };
        loop {
            self.load(kind).await?;
            let now = self.clock.now();
            let held: Vec<Authority> = self
                .records(kind)?
                .into_iter()
                .map(|record| record.life)
                .collect();
            let sequence = self.bundles.own().sequence().unwrap_or(0);
            let spread = match self.connections.hold_bundle(sequence) {
                true => Spread::Everywhere,
                false => Spread::Underway,
            };
            match life::due(&held, longest.duration(), spread, now) {
                None => {
                    return Ok(Next {
                        wake: life::next_wake(&held, now),
                        awaits: (spread == Spread::Underway).then_some(sequence),
                    });
                }
                Some(Order::Prepare) => self.prepare(kind).await?,
                Some(Order::Activate(id)) => self.activate(kind, &id).await?,
                Some(Order::Retire(id)) => self.retire(kind, &id, "it would end too soon").await?,
                Some(Order::Prune(id)) => self.prune(kind, &id).await?,
            }
        }
    }

    async fn held_everywhere(&self, sequence: Option<u64>) {
        match sequence {
            Some(sequence) => self.connections.bundle_held(sequence).await,
            None => pending().await,
        }
    }

    fn records(&self, kind: Kind) -> Result<Vec<AuthorityRecord>, KeeperError> {
        let view = self.registry.view();
        let each = view
            .documents(Tree::Authorities)
            .map(|(id, doc)| AuthorityRecord::from_bytes(id, &doc.value));
        let all = each.collect::<Result<Vec<_>, _>>()?;
        Ok(all.into_iter().filter(|record| record.kind == kind).collect())
    }
}

#[cfg(test)]
mod tests;
