//! Foreign trust domains of which a token named a key that their bundle lacks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use muster_identity::{TrustDomain, UnixTime};
use tokio::sync::Notify;

/// How long it is not said again of the same trust domain: whoever may call us can invent key names as fast as he can write.
const SAID: Duration = Duration::from_secs(10);
/// For how many trust domains this is remembered. They are all among the bundles that we hold.
const MOST: usize = 1_024;

/// What is still to be said, and what was said lately.
#[derive(Debug, Default)]
pub(super) struct UnknownKeys {
    state: Mutex<State>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct State {
    unsaid: BTreeSet<TrustDomain>,
    said: BTreeMap<TrustDomain, UnixTime>,
}

impl UnknownKeys {
    pub(super) fn met(&self, trust_domain: &TrustDomain, now: UnixTime) {
        let mut state = self.lock();
        state.said.retain(|_, at| now < at.saturating_add(SAID));
        if state.said.contains_key(trust_domain) || state.said.len() >= MOST {
            return;
        }
        state.said.insert(trust_domain.clone(), now);
        state.unsaid.insert(trust_domain.clone());
        drop(state);
        self.arrived.notify_one();
    }

    pub(super) async fn next(&self) -> TrustDomain {
        loop {
            let arrived = self.arrived.notified();
            if let Some(trust_domain) = self.lock().unsaid.pop_first() {
                return trust_domain;
            }
            arrived.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_trust_domain_is_said_once_until_some_time_has_passed() {
        let keys = UnknownKeys::default();
        let (b, c): (TrustDomain, TrustDomain) = ("b.example".parse().unwrap(), "c.example".parse().unwrap());
        let at = UnixTime::from_secs;
        for second in 0..10 {
            keys.met(&b, at(second));
        }
        keys.met(&c, at(5));
        assert_eq!([keys.next().await, keys.next().await], [b.clone(), c]);
        assert!(keys.lock().unsaid.is_empty());
        keys.met(&b, at(10));
        assert_eq!(keys.next().await, b);
    }
}
