//! What takes its time beside the talk with a server, whatever kind it is: keys that are made, and the node's own certificate.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use muster_identity::EntryId;
use muster_pki::LocalKey;
use muster_pki::x509::X509Svid;
use muster_runtime::{SigningPoolError, Stop};
use tokio::time::Instant;
use tonic::transport::Channel;
use tracing::{info, warn};

use super::issuing::{Answer, Prepared, prepare};
use super::link::{End, Link};
use super::link_error::LinkError;
use crate::attest::AttestError;
use crate::cache::{Cache, SignFailure};
use crate::rotate::Outcome;

/// How long open requests may still take when the connection is to be changed for another.
const LEAVE_WITHIN: Duration = Duration::from_secs(2);

pub(super) type Keys = Result<Vec<Result<Prepared, EntryId>>, SigningPoolError>;
pub(super) type Renewed = Result<X509Svid, AttestError>;
pub(super) type Under<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What is under way on one connection.
#[derive(Default)]
pub(super) struct UnderWay {
    /// Keys that are being made, and for which entries.
    pub(super) preparing: Option<(Vec<EntryId>, Under<Keys>)>,
    pub(super) renewing: Option<(Arc<LocalKey>, Under<Renewed>)>,
    /// Set when the connection is to be changed: until then open requests are waited for.
    pub(super) leave_by: Option<Instant>,
}

impl Link {
    /// Begins what came due, with at most `batch` orders for SVIDs.
    pub(super) async fn begin(
        &mut self,
        under_way: &mut UnderWay,
        channel: &Channel,
        batch: usize,
    ) -> Result<(), LinkError> {
        let now = self.clock.now();
        if under_way.leave_by.is_some() {
            return Ok(());
        }
        if under_way.renewing.is_none() && !self.renewals.due(now, 1).is_empty() {
            match self.membership.key_to_ask_with().await {
                Ok(key) => {
                    let asking = self.ask_again(channel.clone(), Arc::clone(&key))?;
                    under_way.renewing = Some((key, asking));
                }
                Err(error) => {
                    // Without a key on disk nothing is asked for; the connection has nothing to do with it.
                    warn!(
                        error = &error as &dyn std::error::Error,
                        "the node's certificate can't be renewed now"
                    );
                    self.renewals.finished(&(), Outcome::Unreachable, now);
                }
            }
        }
        let batch = if under_way.preparing.is_none() { batch } else { 0 };
        let orders = self.handle.with(|cache: &mut Cache, now| {
            if cache.next_wake().is_none_or(|wake| wake > now) {
                return Vec::new();
            }
            if cache.next_end().is_some_and(|end| end <= now) {
                cache.tick(now);
            }
            cache.due(now, batch)
        });
        if !orders.is_empty() {
            let entries = orders.iter().map(|order| order.entry_id.clone()).collect();
            let (pool, algorithm) = (self.pool.clone(), self.algorithm);
            let keys = async move { pool.run(move || prepare(orders, algorithm)).await };
            under_way.preparing = Some((entries, Box::pin(keys)));
        }
        Ok(())
    }

    /// Whether the node's proof is being given anew. The answer ends the old certificate, and the connection that shows it with it: then the answer is on its way.
    pub(super) fn proves_again(&self, under_way: &UnderWay) -> bool {
        under_way.renewing.is_some() && self.attestor.is_some()
    }

    /// Waits for the attestation that is under way, when the connection has ended in `end` meanwhile.
    pub(super) async fn hear_out(
        &mut self,
        own: &mut UnderWay,
        stop: &Stop,
        end: Result<End, LinkError>,
    ) -> Result<End, LinkError> {
        let Some(result) = self.meanwhile(stop, under_way(&mut own.renewing)).await else {
            return Ok(End::Stopped);
        };
        self.renewed(own, result).await?;
        if own.leave_by.is_some() {
            Ok(End::Again)
        } else {
            end
        }
    }

    /// Keys are made. Where a key could not be made, the order has failed; the rest is to be asked for.
    pub(super) fn prepared(&mut self, under_way: &mut UnderWay, keys: Keys) -> Vec<Prepared> {
        let Some((entries, _)) = under_way.preparing.take() else {
            return Vec::new();
        };
        let Ok(keys) = keys else {
            self.answered(unreachable(entries));
            return Vec::new();
        };
        let (mut batch, mut failed) = (Vec::with_capacity(keys.len()), Vec::new());
        for key in keys {
            match key {
                Ok(prepared) => batch.push(prepared),
                Err(entry_id) => failed.push(entry_id),
            }
        }
        if !failed.is_empty() {
            self.answered(unreachable(failed));
        }
        batch
    }

    /// The server answered to the request for a new certificate of the node.
    pub(super) async fn renewed(
        &mut self,
        under_way: &mut UnderWay,
        result: Renewed,
    ) -> Result<(), LinkError> {
        let Some((key, _)) = under_way.renewing.take() else {
            return Ok(());
        };
        match result {
            Ok(svid) => {
                match self.adopt(svid, &key).await {
                    // The key stays the one to ask with: the next try brings the same again.
                    Err(LinkError::Store(error)) if error.may_retry() => {
                        warn!(
                            error = &error as &dyn std::error::Error,
                            "the node's new certificate is not on disk, so it is not used"
                        );
                        self.renewals
                            .finished(&(), Outcome::Unreachable, self.clock.now());
                        return Ok(());
                    }
                    adopted => adopted?,
                }
                // The new certificate counts from its first use on, and the old connection ends with the old one.
                under_way.leave_by = Some(Instant::now() + LEAVE_WITHIN);
            }
            // A connection that has reached its age takes no further call, though its streams go on. A proof goes over a connection of its own.
            Err(error) if error.is_break() && self.attestor.is_none() => {
                info!(
                    error = &error as &dyn std::error::Error,
                    "the server takes no more calls on this connection; on with the next"
                );
                self.renewals
                    .finished(&(), Outcome::Unreachable, self.clock.now());
                under_way.leave_by = Some(Instant::now() + LEAVE_WITHIN);
            }
            Err(error) => {
                warn!(
                    error = &error as &dyn std::error::Error,
                    "the node's certificate was not renewed; the old one stays"
                );
                let outcome = if error.may_retry() {
                    Outcome::Unreachable
                } else {
                    Outcome::Refused
                };
                self.renewals.finished(&(), outcome, self.clock.now());
                if error.denial().is_some() {
                    return Err(error.into());
                }
            }
        }
        Ok(())
    }

    /// An order came to something, or to nothing.
    pub(super) fn answered(&mut self, answer: Answer) {
        match answer {
            Answer::X509(results) => {
                let signed = results.iter().filter(|(_, result)| result.is_ok()).count();
                self.metrics.signed.inc_by(u64::try_from(signed).unwrap_or(0));
                self.metrics
                    .not_signed
                    .inc_by(u64::try_from(results.len() - signed).unwrap_or(0));
                self.handle.with(|cache, now| cache.signed(results, now));
                self.handle.read(|cache| self.metrics.measure(cache));
            }
            Answer::Jwt(order, result) => {
                if result.is_ok() {
                    self.metrics.signed.inc()
                } else {
                    self.metrics.not_signed.inc()
                };
                self.handle.token_signed(&order, result);
            }
        }
    }
}

/// The orders for these entries came to nothing, through nobody's fault.
pub(super) fn unreachable(entries: Vec<EntryId>) -> Answer {
    let failed = entries.into_iter().map(|id| (id, Err(SignFailure::Unreachable)));
    Answer::X509(failed.collect())
}

/// The result of what is under way; never, when nothing is.
pub(super) async fn under_way<K, T>(slot: &mut Option<(K, Under<T>)>) -> T {
    match slot {
        Some((_, future)) => future.as_mut().await,
        None => std::future::pending().await,
    }
}
