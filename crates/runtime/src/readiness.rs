//! Whether the daemon may be sent work, and why not.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// What stands between the daemon and `ready`. Clones share it.
///
/// Guards are for the start: each part takes one and drops it when it can serve. Conditions are for later: a part that can no longer serve says so, and says
/// when it can again. Notes change nothing and are only shown.
#[derive(Clone, Debug)]
pub struct Readiness {
    parts: Arc<Mutex<Parts>>,
    ready: Arc<watch::Sender<bool>>,
}

#[derive(Debug, Default)]
struct Parts {
    guards: BTreeMap<&'static str, usize>,
    failing: BTreeMap<&'static str, String>,
    notes: BTreeMap<&'static str, String>,
}

/// Holds `ready` back until it is dropped.
#[derive(Debug)]
#[must_use = "readiness is held back only as long as the guard lives"]
pub struct ReadinessGuard {
    name: &'static str,
    readiness: Readiness,
}

/// One part's word on whether it can serve. It holds until the part says otherwise.
#[derive(Clone, Debug)]
pub struct Condition {
    name: &'static str,
    readiness: Readiness,
}

/// How the daemon stands, for people and probes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Standing {
    /// Parts that have not come up yet.
    pub starting: Vec<&'static str>,
    /// Parts that can't serve now, and why.
    pub failing: Vec<(&'static str, String)>,
    /// What an operator should know although it stops nothing.
    pub notes: Vec<(&'static str, String)>,
}

impl Readiness {
    /// Nothing is in the way yet.
    pub fn new() -> Self {
        Self {
            parts: Arc::default(),
            ready: Arc::new(watch::Sender::new(true)),
        }
    }

    /// Holds `ready` back until the guard is dropped.
    pub fn guard(&self, name: &'static str) -> ReadinessGuard {
        self.change(|parts| *parts.guards.entry(name).or_default() += 1);
        ReadinessGuard {
            name,
            readiness: self.clone(),
        }
    }

    /// A condition that holds for now.
    pub fn condition(&self, name: &'static str) -> Condition {
        Condition {
            name,
            readiness: self.clone(),
        }
    }

    /// Shows a note under `name`, or takes it away.
    pub fn note(&self, name: &'static str, note: Option<String>) {
        self.change(|parts| match note {
            Some(note) => drop(parts.notes.insert(name, note)),
            None => drop(parts.notes.remove(name)),
        });
    }

    /// Whether nothing is in the way now.
    pub fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }

    /// Returns when nothing is in the way.
    pub async fn ready(&self) {
        // The sender lives as long as self.
        self.ready.subscribe().wait_for(|ready| *ready).await.ok();
    }

    /// Follows `ready` as it comes and goes.
    pub fn watch(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// How the daemon stands.
    pub fn standing(&self) -> Standing {
        let parts = self.parts();
        let pairs = |map: &BTreeMap<&'static str, String>| map.iter().map(|(k, v)| (*k, v.clone())).collect();
        Standing {
            starting: parts.guards.keys().copied().collect(),
            failing: pairs(&parts.failing),
            notes: pairs(&parts.notes),
        }
    }

    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Parts)) {
        let mut parts = self.parts();
        change(&mut parts);
        let ready = parts.guards.is_empty() && parts.failing.is_empty();
        // Sent under the lock, so that the order of answers is the order of changes.
        self.ready
            .send_if_modified(|was| std::mem::replace(was, ready) != ready);
    }
}

impl Default for Readiness {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for ReadinessGuard {
    fn drop(&mut self) {
        self.readiness.change(|parts| {
            if let Some(count) = parts.guards.get_mut(self.name) {
                *count -= 1;
                if *count == 0 {
                    parts.guards.remove(self.name);
                }
            }
        });
    }
}

impl Condition {
    /// This part can serve.
    pub fn holds(&self) {
        self.readiness
            .change(|parts| drop(parts.failing.remove(self.name)));
    }

    /// This part can't serve, because of `reason`.
    pub fn fails(&self, reason: impl Into<String>) {
        self.readiness
            .change(|parts| drop(parts.failing.insert(self.name, reason.into())));
    }
}

impl Standing {
    /// Whether nothing is in the way.
    pub fn is_ready(&self) -> bool {
        self.starting.is_empty() && self.failing.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ready_comes_with_the_last_guard_and_goes_with_a_failing_condition() {
        let readiness = Readiness::new();
        let store = readiness.guard("store");
        let doors = readiness.guard("doors");
        assert_eq!(readiness.standing().starting, ["doors", "store"]);
        drop(store);
        assert!(!readiness.is_ready());
        drop(doors);
        readiness.ready().await;

        let disk = readiness.condition("disk");
        disk.fails("no space");
        assert!(!readiness.is_ready());
        assert_eq!(readiness.standing().failing, [("disk", "no space".to_owned())]);
        disk.holds();
        readiness.note("kernel", Some("degraded".into()));
        assert!(readiness.standing().is_ready());
    }
}
