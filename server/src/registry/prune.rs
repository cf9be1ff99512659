use std::sync::Arc;
use std::time::Duration;

use muster_runtime::{Clock, Stop};

use super::{Change, Expect, Registry, Tree, entries};

/// How often what ended is looked for. `expires_at` is tidying up; a removal that must be prompt is a delete.
const EVERY: Duration = Duration::from_secs(60);
/// Redeeming a token that ended this long ago is answered with «expired», later with «unknown».
const TOKENS_KEPT: Duration = Duration::from_secs(24 * 3600);
const AT_ONCE: usize = 500;

/// Deletes entries and tokens that have ended, until told to stop.
pub async fn prune(registry: Registry, clock: Arc<dyn Clock>, stop: Stop) {
    loop {
        let now = clock.now();
        let view = registry.view();
        let mut groups: Vec<Vec<Change>> = Vec::new();
        for (registered, changes) in entries::delete_expired(&view, now, AT_ONCE) {
            tracing::info!(entry = %registered.entry.id, spiffe_id = %registered.entry.spec.spiffe_id, "an entry ended");
            groups.push(changes);
        }
        for (hash, token) in view.expired_tokens(now.saturating_sub(TOKENS_KEPT)).take(AT_ONCE) {
            groups.push(vec![Change::delete(
                Tree::Tokens,
                hash.to_vec(),
                Expect::At(token.version),
            )]);
        }
        // What fails (somebody changed it meanwhile, the disk is full) is looked at again in a minute.
        let _ = registry.commit_each(groups).await;
        tokio::select! {
            () = clock.sleep_until(clock.now().saturating_add(EVERY)) => {}
            () = stop.ordered() => return,
        }
    }
}
