//! Changes, made to their end: no change without its audit record, whoever still waits for the answer (I9).

use std::future::Future;
use std::sync::Arc;

use muster_audit::{Action, Actor, Audit, AuditError, Event, Outcome, Standing};
use tokio::sync::{Semaphore, oneshot};

use super::{Context, Refusal};

/// How many changes may be under way. The registry joins what waits into one write, so that more would only wait there.
const AT_ONCE: usize = 1024;

/// Room for the changes that are under way.
#[derive(Clone, Debug)]
pub struct Changes(Arc<Semaphore>);

impl Default for Changes {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

impl Context {
    /// Makes a change and its audit record, whether or not the caller stays for the answer: one that hung up between the two would have changed something without a
    /// record. Only what waits for room ends with its call. Nothing is changed while the audit log can't be written.
    pub(crate) async fn to_the_end<T: Send + 'static>(
        &self,
        change: impl Future<Output = Result<T, Refusal>> + Send + 'static,
    ) -> Result<T, Refusal> {
        let room = Arc::clone(&self.changes.0).acquire_owned().await;
        let room = room.map_err(|_| Refusal::unavailable("the server is stopping"))?;
        let audit = self.audit.clone();
        let (answer, answered) = oneshot::channel();
        self.spawner.spawn_for_peer("change", async move {
            let done = match writable(&audit).await {
                Ok(()) => change.await,
                Err(error) => Err(error.into()),
            };
            drop(room);
            // Nobody may be there to hear it.
            answer.send(done).ok();
        });
        answered.await.unwrap_or_else(|_| {
            Err(Refusal::internal(
                "the change broke off; look whether it was made",
            ))
        })
    }
}

/// Whether a record can be written. After a failure only a record can tell: one that says so is written first, and what it stands before is on record again.
async fn writable(audit: &Audit) -> Result<(), AuditError> {
    if audit.standing() == Standing::Writing {
        return Ok(());
    }
    let resumed = Event::new(Actor::Daemon, Action::AuditResume, Outcome::Done);
    audit.record(resumed).await.map(drop)
}

#[cfg(test)]
mod tests {
    use muster_audit::Settings;
    use muster_identity::UnixTime;
    use muster_pki::{KeyAlgorithm, LocalKey};

    use super::*;

    #[tokio::test]
    async fn nothing_is_changed_while_the_audit_log_cannot_be_written() {
        let signer = Arc::new(LocalKey::generate(KeyAlgorithm::EcP256).unwrap());
        let now = Arc::new(|| UnixTime::from_secs(1));
        let audit = Audit::in_memory(Settings::new("example.org/audit", signer, now)).unwrap();
        writable(&audit).await.unwrap();
        audit.set_memory_full(true);
        let lost = Event::new(Actor::Daemon, Action::EntryCreate, Outcome::Done);
        audit.record(lost).await.unwrap_err();
        writable(&audit).await.unwrap_err();
        // It goes on by itself when there is space, and the log says from when on.
        audit.set_memory_full(false);
        writable(&audit).await.unwrap();
        assert!(audit.recorded().iter().any(|line| line.contains("audit.resume")));
    }
}
