//! Deleting what has ended, a batch at a time, until told to stop.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use muster_audit::{Audit, AuditError, Event, Outcome};
use muster_identity::UnixTime;
use muster_runtime::{Clock, Stop};

use super::{Change, CommitError, Registry, View};

/// How much is deleted in one commit: callers' changes go between two of them.
pub(crate) const AT_ONCE: usize = 500;

/// One thing that ended: what is recorded of it, and what deletes it.
pub(crate) type Ended = (Event, Vec<Change>);

/// All that ended, found in one walk over one view as far as it is asked for.
pub(crate) type AllEnded<'a> = Box<dyn Iterator<Item = Ended> + Send + 'a>;

/// Looks for what has ended, every so often.
pub(crate) struct Sweeper {
    pub(crate) registry: Registry,
    pub(crate) audit: Audit,
    pub(crate) clock: Arc<dyn Clock>,
    /// How long it waits between two looks.
    pub(crate) every: Duration,
    /// What the log says when some of it could not be deleted.
    pub(crate) failed: &'static str,
}

/// Why not everything that ended is gone.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SweepError {
    #[error("recording it")]
    Audit(#[from] AuditError),
    #[error("deleting it")]
    Commit(#[source] CommitError),
}

impl Sweeper {
    /// Deletes what `ended` finds at each look, until told to stop.
    pub(crate) async fn run(&self, ended: impl Fn(&View, UnixTime) -> AllEnded<'_>, stop: &Stop) {
        loop {
            let view = self.registry.view();
            tokio::select! {
                swept = self.sweep(ended(&view, self.clock.now())) => if let Err(error) = swept {
                    tracing::warn!(error = &error as &dyn Error, "{}", self.failed);
                },
                () = stop.ordered() => return,
            }
            // What the view holds is not kept alive while there is nothing to do.
            drop(view);
            tokio::select! {
                () = self.clock.sleep_until(self.clock.now().saturating_add(self.every)) => {}
                () = stop.ordered() => return,
            }
        }
    }

    /// Deletes all of it.
    pub(crate) async fn sweep(&self, mut ended: impl Iterator<Item = Ended>) -> Result<(), SweepError> {
        loop {
            let (events, groups): (Vec<Event>, Vec<Vec<Change>>) = ended.by_ref().take(AT_ONCE).unzip();
            if events.is_empty() {
                return Ok(());
            }
            self.sweep_batch(events, groups).await?;
        }
    }

    /// On record first (I9): what then fails is recorded as failed.
    async fn sweep_batch(&self, events: Vec<Event>, groups: Vec<Vec<Change>>) -> Result<(), SweepError> {
        self.audit.record_all(events.clone()).await?;
        let (mut failed, mut failure) = (Vec::new(), None);
        for (event, outcome) in events.into_iter().zip(self.registry.commit_each(groups).await) {
            let Err(error) = outcome else { continue };
            failed.push(event.outcome(Outcome::failed(&error)));
            // A conflict: somebody changed it meanwhile, or deleted it, or it came back. It is looked at again at the
            // next look, the rest now.
            if !matches!(error, CommitError::Conflict(_)) {
                failure = Some(error);
            }
        }
        if !failed.is_empty() {
            self.audit.record_all(failed).await?;
        }
        failure.map_or(Ok(()), |error| Err(SweepError::Commit(error)))
    }
}
