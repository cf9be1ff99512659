//! The audit log of a running agent.

use std::sync::Arc;
use std::time::Duration;

use muster_audit::{Audit, AuditError, Settings};
use muster_identity::TrustDomain;
use muster_runtime::{Clock, Condition, Stop};
use tracing::error;

use super::BuildError;
use crate::keep::Folder;

/// How often the audit log is asked whether it can still write.
const LOOK: Duration = Duration::from_secs(1);

/// Opens the audit log of this node, under a name that says whose it is.
pub(super) fn open(
    folder: &Folder,
    trust_domain: &TrustDomain,
    clock: &Arc<dyn Clock>,
) -> Result<Audit, BuildError> {
    let (signer, clock) = (Arc::new(folder.audit_key()?), Arc::clone(clock));
    let origin = format!("{trust_domain}/agent-audit");
    Ok(Audit::open(
        &folder.audit(),
        Settings::new(origin, signer, Arc::new(move || clock.now())),
    )?)
}

/// Tells probes whether the log can be written; ends when it can't be any more.
pub(super) async fn watch(audit: Audit, standing: Condition, stop: Stop) -> Result<(), AuditError> {
    loop {
        match audit.standing() {
            muster_audit::Standing::Writing => standing.holds(),
            muster_audit::Standing::Failing(why) => standing.fails(why),
            muster_audit::Standing::Broken(why) => {
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
