//! Deleting entries and tokens that have ended.

use std::sync::Arc;
use std::time::Duration;

use muster_audit::{Action, Actor, Audit, Event, Object, Outcome};
use muster_identity::UnixTime;
use muster_runtime::{Clock, Stop};

use super::sweep::{AllEnded, Ended, Sweeper};
use super::{Change, Expect, Registered, Registry, TokenHash, TokenRecord, Tree, View, entries};

/// How often what ended is looked for. `expires_at` is tidying up; a removal that must be prompt is a delete.
const EVERY: Duration = Duration::from_secs(60);
/// Redeeming a token that ended this long ago is answered with «expired», later with «unknown».
const TOKENS_KEPT: Duration = Duration::from_secs(24 * 3600);

/// Deletes entries and tokens that have ended, until told to stop.
pub async fn prune(registry: Registry, audit: Audit, clock: Arc<dyn Clock>, stop: Stop) {
    let sweeper = Sweeper {
        registry,
        audit,
        clock,
        every: EVERY,
        failed: "what ended stays for another minute",
    };
    sweeper.run(ended, &stop).await;
}

/// All that had ended by `now`.
fn ended(view: &View, now: UnixTime) -> AllEnded<'_> {
    let entries = view.expired_entries(now).filter_map(move |id| view.entry(id));
    let entries = entries.map(|registered| ended_entry(registered));
    let tokens = view.expired_tokens(now.saturating_sub(TOKENS_KEPT));
    let tokens = tokens.map(|(hash, token)| ended_token(*hash, token));
    Box::new(entries.chain(tokens))
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
