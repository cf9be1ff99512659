//! The task that writes what is held behind the cache.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use muster_runtime::Stop;
use tracing::warn;

use super::SvidStore;
use crate::cache::{Cache, Handle};

/// How long changes are gathered before they are written.
const GATHER: Duration = Duration::from_millis(200);
/// A write may take this part of the time; a big cache that changes all the time is written less often.
const SHARE: u32 = 20;

/// Keeps a sealed copy of the cache on disk until `stop`, and writes it once more then. A failure is told and tried again at the next change: without a copy a restart is slower,
/// and nothing else.
pub async fn write_behind(handle: Handle, store: SvidStore, stop: Stop) -> Result<(), Infallible> {
    let store = Arc::new(store);
    let mut changes = handle.changes();
    loop {
        let stopping = tokio::select! {
            () = stop.ordered() => true,
            changed = changes.changed() => changed.is_err(),
        };
        if !stopping {
            tokio::select! {
                () = stop.ordered() => {}
                () = tokio::time::sleep(GATHER) => {}
            }
        }
        changes.mark_unchanged();
        let took = write(&handle, &store).await;
        if stopping || stop.is_ordered() {
            return Ok(());
        }
        tokio::select! {
            () = stop.ordered() => {}
            () = tokio::time::sleep(took * SHARE) => {}
        }
    }
}

async fn write(handle: &Handle, store: &Arc<SvidStore>) -> Duration {
    let kept = handle.read(Cache::to_keep);
    let (store, begun) = (Arc::clone(store), Instant::now());
    let written = tokio::task::spawn_blocking(move || store.write(&kept)).await;
    if let Ok(Err(error)) = written {
        warn!(
            error = &error as &dyn std::error::Error,
            "the SVIDs were not kept on disk; they are in memory alone"
        );
    }
    begun.elapsed()
}
