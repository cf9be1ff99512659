//! Carries out what [`life`] orders, by time and by command: the one task that makes, activates, taints and removes authorities.

use std::collections::BTreeSet;
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
use tokio::sync::watch;
use tracing::error;

use super::authorities::{Commands, records};
use super::life::{self, Authority, Order, Spread};
use super::meter::CaMeter;
use super::record::{AuthorityRecord, Kind, RecordError};
use super::sign::Ca;
use super::upstream::Upstream;
use crate::bundles::Bundles;
use crate::registry::Registry;
use crate::sync::Connections;

mod commands;
mod error;
mod load;
mod make;
mod making;
mod orders;
mod others;

pub use commands::Awaited;
pub use error::KeeperError;
use make::Maker;
pub use making::Making;

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
    pub(crate) meter: CaMeter,
    pub(crate) awaited: Awaited,
    pub(crate) making: Making,
    pub(crate) upstream: Option<Upstream>,
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
    /// Does what is due now, so that afterwards both authorities sign or an error says why not; tokens alone may have to wait for somebody above. Called once before the doors open, when no node is
    /// connected that would have to be waited for. What is to sign later is not waited for, and an upstream authority that fails stops no server whose present
    /// authorities still count.
    pub async fn start(&mut self) -> Result<(), KeeperError> {
        for kind in [Kind::X509, Kind::Jwt] {
            self.maker().forget_stray_keys(kind).await?;
        }
        loop {
            self.turn().await?;
            let mut failed = None;
            loop {
                if self.still_signs() {
                    return Ok(());
                }
                let Some(made) = self.making.next().await else {
                    return match failed {
                        Some(error) if !self.ca.signs_now(Kind::X509) => Err(error),
                        // Certificates do not wait for what becomes of tokens above.
                        _ => Ok(()),
                    };
                };
                match self.settle(made).await {
                    Ok(()) => break,
                    // What becomes of the other kind may be enough.
                    Err(error) if error.is_upstreams() => failed = Some(error),
                    Err(error) => return Err(error),
                }
            }
        }
    }

    /// Keeps the authorities until the stop is ordered. `standing` says whether it succeeds.
    pub async fn run(
        mut self,
        mut commands: Commands,
        standing: Condition,
        stop: Stop,
    ) -> Result<(), std::convert::Infallible> {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        let mut leaving = self.upstream.as_ref().map(Upstream::leaving);
        let mut failed = false;
        let mut done = self.turn().await;
        loop {
            let next = match done {
                Ok(next) => {
                    // What failed and is made again has not succeeded yet.
                    if self.making.is_empty() {
                        failed = false;
                        backoff.reset();
                    }
                    if !failed {
                        standing.holds();
                    }
                    next
                }
                Err(error) => {
                    failed = true;
                    let wait = backoff.next_wait();
                    let excused = error.is_upstreams();
                    let error = &error as &dyn Error;
                    self.meter.failed();
                    error!(error, retry_in = ?wait, "an authority could not be kept; what is valid goes on signing");
                    // An upstream that fails is shown beside the readiness: taken out of service for it, a server would serve nobody while it still can. Certificates
                    // are what it has to be able to sign, by SPIRE's measure too.
                    if excused && self.ca.signs_now(Kind::X509) {
                        standing.holds();
                    } else {
                        standing.fails(format!("an authority could not be kept: {error}"));
                    }
                    Next {
                        wake: self.clock.now().saturating_add(wait.max(Duration::from_secs(1))),
                        awaits: None,
                    }
                }
            };
            done = tokio::select! {
                () = stop.ordered() => return Ok(()),
                () = self.clock.sleep_until(next.wake) => self.turn().await,
                () = held_everywhere(&self.connections, next.awaits) => self.turn().await,
                Some(made) = self.making.next() => match self.settle(made).await {
                    Ok(()) => self.turn().await,
                    Err(error) => Err(error),
                },
                Some(asked) = commands.0.recv() => {
                    self.command(asked).await;
                    self.turn().await
                }
                () = changed(&mut leaving) => self.turn().await,
            };
        }
    }

    /// Carries out every order that is due, for both kinds, and begins to make what is to be made. A failure of one does not hold up the other.
    async fn turn(&mut self) -> Result<Next, KeeperError> {
        let x509 = self.turn_of(Kind::X509).await;
        let jwt = self.turn_of(Kind::Jwt).await;
        let (x509, jwt) = (x509?, jwt?);
        let others = self.forget_ended().await?;
        Ok(Next {
            wake: x509.wake.min(jwt.wake).min(others),
            // The later bundle holds what the earlier one does.
            awaits: x509.awaits.max(jwt.awaits),
        })
    }

    /// The same for authorities that are to sign no more.
    async fn turn_disabled(&mut self, kind: Kind) -> Result<Next, KeeperError> {
        loop {
            let held = self.held(kind)?;
            let Some(order) = life::due_disabled(&held, self.clock.now()) else {
                let wake = life::next_wake_disabled(&held);
                return Ok(Next { wake, awaits: None });
            };
            self.carry_out_due(kind, order).await?;
        }
    }

    async fn turn_of(&mut self, kind: Kind) -> Result<Next, KeeperError> {
        if kind == Kind::Jwt && !self.ca.signs_tokens() {
            return self.turn_disabled(kind).await;
        }
        let longest = self.longest_leaf(kind);
        loop {
            self.load(kind).await?;
            let now = self.clock.now();
            let held = self.held(kind)?;
            let sequence = self.bundles.own().sequence().unwrap_or(0);
            let spread = match self.connections.hold_bundle(sequence) {
                true => Spread::Everywhere,
                false => Spread::Underway,
            };
            let leaving = |root: &str| {
                self.upstream
                    .as_ref()
                    .is_some_and(|upstream| upstream.is_leaving(root))
            };
            let awaited = self.awaited.of(kind);
            let order = life::due_below(&held, longest, spread, awaited, leaving, now);
            match order {
                Some(Order::Prepare) => self.begin_due(kind),
                Some(order) => {
                    self.carry_out_due(kind, order).await?;
                    continue;
                }
                None => {}
            }
            return Ok(Next {
                wake: life::next_wake(&held, now),
                awaits: (spread == Spread::Underway).then_some(sequence),
            });
        }
    }

    /// Whether what is to sign counts now.
    fn still_signs(&self) -> bool {
        self.ca.signs_now(Kind::X509) && (!self.ca.signs_tokens() || self.ca.signs_now(Kind::Jwt))
    }

    /// How long something may live that is signed now.
    fn longest_leaf(&self, kind: Kind) -> Duration {
        let lifetimes = self.ca.lifetimes();
        match kind {
            Kind::X509 => lifetimes.max_x509_svid.duration(),
            Kind::Jwt => lifetimes.max_jwt_svid.duration(),
        }
    }

    fn held(&self, kind: Kind) -> Result<Vec<Authority>, RecordError> {
        let records = self.records(kind)?;
        Ok(records.into_iter().map(|record| record.life).collect())
    }

    fn maker(&self) -> Maker {
        Maker {
            terms: self.terms.clone(),
            ca: self.ca.clone(),
            keys: Arc::clone(&self.keys),
            registry: self.registry.clone(),
            audit: self.audit.clone(),
            clock: Arc::clone(&self.clock),
            upstream: self.upstream.clone(),
        }
    }

    fn records(&self, kind: Kind) -> Result<Vec<AuthorityRecord>, RecordError> {
        records(&self.registry.view(), kind)
    }
}

async fn held_everywhere(connections: &Connections, sequence: Option<u64>) {
    match sequence {
        Some(sequence) => connections.bundle_held(sequence).await,
        None => pending().await,
    }
}

/// Returns when other roots are to be left.
async fn changed(leaving: &mut Option<watch::Receiver<BTreeSet<String>>>) {
    let told = match leaving {
        Some(leaving) => leaving.changed().await.is_ok(),
        None => false,
    };
    if !told {
        pending::<()>().await;
    }
}

#[cfg(test)]
mod command_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod upstream_tests;
