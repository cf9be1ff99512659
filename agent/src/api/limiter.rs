//! How often one kind of caller may do something.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use muster_transport::Evidence;
use tokio::time::Instant;

/// How many callers are counted apart. Past it those that have been idle longest begin anew.
const ACCOUNTS: usize = 4_096;

/// A token bucket for each uid and cgroup: a service that runs wild harms only itself.
#[derive(Debug)]
pub(super) struct Limiter {
    per_second: f64,
    burst: f64,
    hasher: RandomState,
    buckets: Mutex<HashMap<u64, Bucket>>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f64,
    filled: Instant,
}

impl Limiter {
    /// As many as `burst` at once and `per_second` on average.
    pub(super) fn new(per_second: u32, burst: u32) -> Self {
        Self {
            per_second: per_second.into(),
            burst: f64::from(burst).max(1.0),
            hasher: RandomState::new(),
            buckets: Mutex::default(),
        }
    }

    /// Whether whoever has this evidence may do it once more now.
    pub(super) fn allows(&self, evidence: &Evidence) -> bool {
        self.take(
            self.hasher.hash_one((evidence.uids.real, &evidence.cgroups.text)),
            Instant::now(),
        )
    }

    fn take(&self, account: u64, now: Instant) -> bool {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= ACCOUNTS && !buckets.contains_key(&account) {
            self.forget(&mut buckets, now);
        }
        let bucket = buckets.entry(account).or_insert(Bucket {
            left: self.burst,
            filled: now,
        });
        let refill = now.saturating_duration_since(bucket.filled).as_secs_f64() * self.per_second;
        *bucket = Bucket {
            left: (bucket.left + refill).min(self.burst),
            filled: now,
        };
        let allowed = bucket.left >= 1.0;
        if allowed {
            bucket.left -= 1.0;
        }
        allowed
    }

    /// Forgets those whose buckets are full again, which changes nothing for them; if there are none, the one that was idle longest.
    fn forget(&self, buckets: &mut HashMap<u64, Bucket>, now: Instant) {
        let whole = Duration::from_secs_f64((self.burst / self.per_second.max(0.001)).min(3_600.0));
        buckets.retain(|_, bucket| now.saturating_duration_since(bucket.filled) < whole);
        if buckets.len() >= ACCOUNTS
            && let Some(idle) = buckets
                .iter()
                .min_by_key(|(_, bucket)| bucket.filled)
                .map(|(account, _)| *account)
        {
            buckets.remove(&idle);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_allowed_and_then_the_average() {
        let (limiter, start) = (Limiter::new(10, 3), Instant::now());
        assert!((0..3).all(|_| limiter.take(1, start)));
        assert!(!limiter.take(1, start));
        assert!(limiter.take(2, start), "another caller has a bucket of its own");
        let later = start + Duration::from_millis(110);
        assert!(limiter.take(1, later));
        assert!(!limiter.take(1, later));
    }

    #[test]
    fn accounts_are_bounded_and_a_busy_one_is_not_forgotten() {
        let (limiter, start) = (Limiter::new(1, 1), Instant::now());
        for account in 0..10_000 {
            limiter.take(account, start + Duration::from_micros(account));
            limiter.take(u64::MAX, start + Duration::from_micros(account));
        }
        assert!(limiter.buckets.lock().unwrap().len() <= ACCOUNTS);
        assert!(!limiter.take(u64::MAX, start + Duration::from_micros(10_001)));
    }
}
