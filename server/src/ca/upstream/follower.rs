//! The task that follows what is known above.

use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use muster_audit::{Action, Actor, Audit, AuditError, Event, Object, Outcome};
use muster_identity::TrustDomain;
use muster_pki::bundle::Bundle;
use muster_plugin_api::{UpstreamBundle, UpstreamError};
use muster_runtime::{Backoff, Clock, Stop};
use tracing::{info, warn};

use super::Upstream;
use super::taken_over::{Above, TakenOver};
use crate::bundles::{BundleRecordError, Bundles};
use crate::ca::authorities::records;
use crate::ca::foreign_keys::ForeignKeys;
use crate::ca::origin::Origins;
use crate::ca::own_bundle::{change_own_bundle, own_bundle};
use crate::ca::record::{Kind, RecordError};
use crate::registry::{CommitError, Registry};

/// The first and the longest wait after a failure.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How often it is looked whether a root has been left.
const LOOK: Duration = Duration::from_secs(1);

/// Follows the upstream authority and takes into our bundle what it says.
pub struct Follower {
    pub(crate) upstream: Upstream,
    pub(crate) trust_domain: TrustDomain,
    pub(crate) registry: Registry,
    pub(crate) bundles: Bundles,
    pub(crate) audit: Audit,
    pub(crate) clock: Arc<dyn Clock>,
}

/// Why something from above is not in our bundle yet.
#[derive(Debug, thiserror::Error)]
enum FollowError {
    #[error("asking what is known above")]
    Upstream(#[from] UpstreamError),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    Bundle(#[from] BundleRecordError),
    #[error("writing to the log")]
    Commit(#[from] CommitError),
    #[error("writing to the audit log")]
    Audit(#[from] AuditError),
}

impl Follower {
    /// Follows until the stop is ordered.
    pub async fn run(self, stop: Stop) -> Result<(), Infallible> {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        let mut above = Above::new(self.upstream.whom());
        loop {
            tokio::select! {
                () = stop.ordered() => return Ok(()),
                Err(error) = self.follow(&mut above, &mut backoff) => {
                    let wait = backoff.next_wait();
                    warn!(
                        error = &error as &dyn Error,
                        retry_in = ?wait,
                        "the upstream authority can't be followed; what is known stays"
                    );
                    tokio::select! {
                        () = stop.ordered() => return Ok(()),
                        () = tokio::time::sleep(wait) => {}
                    }
                }
            }
        }
    }

    /// Takes over one change after the other, until one fails.
    async fn follow(&self, above: &mut Above, backoff: &mut Backoff) -> Result<Infallible, FollowError> {
        loop {
            let known = {
                let seen = above.known().clone();
                let mut next = std::pin::pin!(self.upstream.changed(&seen));
                loop {
                    // Nothing has been told yet when nothing is known.
                    let leaving =
                        *above.known() != UpstreamBundle::default() && self.take_over(above).await?;
                    tokio::select! {
                        known = &mut next => break known?,
                        () = tokio::time::sleep(LOOK), if leaving => {}
                    }
                }
            };
            above.told(known);
            backoff.reset();
        }
    }

    /// Takes over what can be. Says whether something has to wait until we have left a root.
    async fn take_over(&self, above: &Above) -> Result<bool, FollowError> {
        let now = self.clock.now();
        let view = self.registry.view();
        let held: Vec<_> = records(&view, Kind::X509)?
            .into_iter()
            .map(|record| record.life)
            .collect();
        let keys = ForeignKeys::new(&view, now)?;
        let origins = Origins::read(&view)?;
        // Of the same view as the origins: what is in one and not yet in the other would look as if somebody had taken it out.
        let (before, _) = own_bundle(&view, &self.trust_domain)?;
        let mut bundle = before.clone();
        let taken = above.take_over(&mut bundle, &held, &keys, &origins, now);
        let kept = above.kept(&origins, &bundle, &taken, now);
        self.upstream.inner.leaving.send_if_modified(|leaving| {
            let differs = *leaving != taken.leaving;
            leaving.clone_from(&taken.leaving);
            differs
        });
        let changes = before != bundle;
        if changes {
            self.record(&taken).await?;
        }
        if changes || !kept.is_empty() {
            let change = |bundle: &mut Bundle| -> Result<(), FollowError> {
                above.take_over(bundle, &held, &keys, &origins, now);
                Ok(())
            };
            change_own_bundle(&self.registry, &self.bundles, &self.trust_domain, kept, change).await?;
        }
        if changes {
            let TakenOver {
                added,
                tainted,
                revoked,
                ..
            } = &taken;
            info!(
                ?added,
                ?tainted,
                ?revoked,
                "the bundle follows the upstream authority"
            );
        }
        for key in above.unknown_keys(&bundle, &keys, &origins, now) {
            if self.upstream.publish(&key).await? {
                info!(authority = %key.key_id(), "a token-signing key of ours was made known above");
            }
        }
        Ok(!taken.leaving.is_empty())
    }

    async fn record(&self, taken: &TakenOver) -> Result<(), FollowError> {
        let TakenOver {
            added,
            tainted,
            revoked,
            ..
        } = taken;
        let of = |action, ids: &[String]| {
            let events = ids.iter().map(move |id| {
                Event::new(Actor::Daemon, action, Outcome::Done)
                    .object(Object::authority(id))
                    .fact("why", "it is so at the upstream authority")
            });
            events.collect::<Vec<_>>()
        };
        let mut events = Vec::new();
        events.extend(of(Action::BundleAppend, added));
        events.extend(of(Action::AuthorityTaint, tainted));
        events.extend(of(Action::AuthorityRevoke, revoked));
        for event in events {
            self.audit.record(event).await?;
        }
        Ok(())
    }
}
