//! What a running server looks at from time to time, and shows beside its readiness.

use std::convert::Infallible;
use std::sync::Weak;
use std::time::Duration;

use muster_audit::{Audit, AuditError, Standing};
use muster_runtime::{Condition, Readiness, Stop};
use tracing::error;

use crate::store::journal_and_sled::JournalAndSled;

/// How often.
const LOOK: Duration = Duration::from_secs(1);

/// Shows when the store's second half does not keep up. No condition: what the journal has acknowledged is safe, and a server that is taken out of service for it would
/// help nobody.
pub(crate) async fn watch_store(
    store: Weak<JournalAndSled>,
    readiness: Readiness,
    stop: Stop,
) -> Result<(), Infallible> {
    // Held between two looks by the registry alone: the folder's lock goes with it.
    while let Some(lagging) = store.upgrade().map(|store| store.lagging()) {
        readiness.note("store", lagging);
        tokio::select! {
            () = stop.ordered() => break,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
    Ok(())
}

/// Lets `ready` follow the audit log: a server that can't record may do nothing.
pub(crate) async fn watch_audit(audit: Audit, standing: Condition, stop: Stop) -> Result<(), AuditError> {
    loop {
        match audit.standing() {
            Standing::Writing => standing.holds(),
            Standing::Failing(why) => standing.fails(why),
            Standing::Broken(why) => {
                // Only a new start can tell what is on the disk.
                error!(why, "the audit log can't be written any more; stopping");
                return Err(AuditError::Broken);
            }
        }
        tokio::select! {
            () = stop.ordered() => return Ok(()),
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}
