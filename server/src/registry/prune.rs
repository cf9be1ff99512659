use std::sync::Arc;
use std::time::Duration;

use muster_audit::{Action, Actor, Audit, AuditError, Event, Object, Outcome};
use muster_identity::UnixTime;
use muster_runtime::{Clock, Stop};

use super::{Change, CommitError, Expect, Registered, Registry, TokenHash, TokenRecord, Tree, View, entries};

/// How often what ended is looked for. `expires_at` is tidying up; a removal that must be prompt is a delete.
const EVERY: Duration = Duration::from_secs(60);
/// Redeeming a token that ended this long ago is answered with «expired», later with «unknown».
const TOKENS_KEPT: Duration = Duration::from_secs(24 * 3600);
/// How much is deleted in one commit: callers' changes go between two of them.
const AT_ONCE: usize = 500;

/// Deletes entries and tokens that have ended, until told to stop.
pub async fn prune(registry: Registry, audit: Audit, clock: Arc<dyn Clock>, stop: Stop) {
    loop {
        tokio::select! {
            pruned = prune_all(&registry, &audit, clock.now()) => if let Err(error) = pruned {
                tracing::warn!(error = &error as &dyn std::error::Error, "what ended stays for another minute");
            },
            () = stop.ordered() => return,
        }
        tokio::select! {
            () = clock.sleep_until(clock.now().saturating_add(EVERY)) => {}
            () = stop.ordered() => return,
        }
    }
}

/// Why not everything that ended is gone.
#[derive(Debug, thiserror::Error)]
enum PruneError {
    #[error("recording it")]
    Audit(#[from] AuditError),
    #[error("deleting it")]
    Commit(#[source] CommitError),
}

/// One thing that ended: what is recorded of it, and what deletes it.
type Ended = (Event, Vec<Change>);

/// Deletes all that had ended by `now`, in one walk over one view.
async fn prune_all(registry: &Registry, audit: &Audit, now: UnixTime) -> Result<(), PruneError> {
    let view: Arc<View> = registry.view();
    let ids = view.expired_entries(now).filter_map(|id| view.entry(id));
    let entries = ids.map(|registered| ended_entry(registered));
    let tokens = view.expired_tokens(now.saturating_sub(TOKENS_KEPT));
    let tokens = tokens.map(|(hash, token)| ended_token(*hash, token));
    let mut ended = entries.chain(tokens);
    loop {
        let batch: Vec<Ended> = ended.by_ref().take(AT_ONCE).collect();
        if batch.is_empty() {
            return Ok(());
        }
        prune_batch(registry, audit, batch).await?;
    }
}

/// On record first (I9): what then fails is recorded as failed.
async fn prune_batch(registry: &Registry, audit: &Audit, batch: Vec<Ended>) -> Result<(), PruneError> {
    let (events, groups): (Vec<Event>, Vec<Vec<Change>>) = batch.into_iter().unzip();
    audit.record_all(events.clone()).await?;
    let mut failure = None;
    let mut failed = Vec::new();
    for (event, outcome) in events.into_iter().zip(registry.commit_each(groups).await) {
        let Err(error) = outcome else { continue };
        failed.push(event.outcome(Outcome::failed(&error)));
        // A conflict: somebody changed it meanwhile, or deleted it. It is looked at again in a minute, the rest now.
        if !matches!(error, CommitError::Conflict(_)) {
            failure = Some(error);
        }
    }
    if !failed.is_empty() {
        audit.record_all(failed).await?;
    }
    failure.map_or(Ok(()), |error| Err(PruneError::Commit(error)))
}

fn ended_entry(registered: &Registered) -> Ended {
    let entry = &registered.entry;
    let event = Event::new(Actor::Daemon, Action::EntryExpire, Outcome::Done)
        .object(Object::entry(&entry.id))
        .fact("spiffe_id", &entry.spec.spiffe_id)
        .fact("parent_id", &entry.spec.parent_id);
    tracing::info!(entry = %entry.id, spiffe_id = %entry.spec.spiffe_id, "an entry ended");
    (event, entries::delete(registered))
}

fn ended_token(hash: [u8; 32], token: &TokenRecord) -> Ended {
    let event = Event::new(Actor::Daemon, Action::TokenDelete, Outcome::Done)
        .object(Object::token(TokenHash::from_bytes(hash).short_name()))
        .fact("expires_at", token.expires_at);
    let delete = Change::delete(Tree::Tokens, hash.to_vec(), Expect::At(token.version));
    (event, vec![delete])
}

#[cfg(test)]
mod tests;
