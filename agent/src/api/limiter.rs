//! How often one kind of caller may do something.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use muster_transport::Evidence;
use tokio::time::Instant;

/// How many callers are counted apart. Past it those that have been idle longest begin anew.
const ACCOUNTS: usize = 4_096;

/// How many times the rate of one control group a user has in all its groups. Whoever may make groups (a user's systemd,
/// rootless containers) has as many as it likes; and several services of one user run side by side.
const GROUPS: f64 = 4.0;

/// A token bucket for each uid and cgroup, so that a service that runs wild harms only itself, and a larger one for each uid.
#[derive(Debug)]
pub(super) struct Limiter {
    hasher: RandomState,
    buckets: Mutex<Buckets>,
}

#[derive(Debug)]
struct Buckets {
    rate: Rate,
    by_account: HashMap<u64, Bucket>,
    by_user: HashMap<u32, Bucket>,
}

#[derive(Clone, Copy, Debug)]
struct Rate {
    per_second: f64,
    burst: f64,
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
            hasher: RandomState::new(),
            buckets: Mutex::new(Buckets {
                rate: Rate::new(per_second, burst),
                by_account: HashMap::new(),
                by_user: HashMap::new(),
            }),
        }
    }

    /// Changes the rate for everybody from now on.
    pub(super) fn set_rate(&self, per_second: u32, burst: u32) {
        self.buckets().rate = Rate::new(per_second, burst);
    }

    /// Whether whoever has this evidence may do it once more now.
    pub(super) fn allows(&self, evidence: &Evidence) -> bool {
        let uid = evidence.uids.real;
        let account = self.hasher.hash_one((uid, &evidence.cgroups.text));
        self.take(account, uid, Instant::now())
    }

    fn take(&self, account: u64, uid: u32, now: Instant) -> bool {
        let mut buckets = self.buckets();
        let rate = buckets.rate;
        // The user's tokens are spent by what its groups are allowed, not by what they are refused.
        fill(&mut buckets.by_account, account, rate, now).left >= 1.0
            && spend(fill(&mut buckets.by_user, uid, rate.of_user(), now))
            && spend(fill(&mut buckets.by_account, account, rate, now))
    }

    fn buckets(&self) -> MutexGuard<'_, Buckets> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rate {
    fn new(per_second: u32, burst: u32) -> Self {
        Self {
            per_second: per_second.into(),
            burst: f64::from(burst).max(1.0),
        }
    }

    fn of_user(self) -> Self {
        Self {
            per_second: self.per_second * GROUPS,
            burst: self.burst * GROUPS,
        }
    }

    /// How long an empty bucket takes to be full.
    fn whole(self) -> Duration {
        Duration::from_secs_f64((self.burst / self.per_second.max(0.001)).min(3_600.0))
    }
}

/// The bucket of `key`, with what has come into it since it was looked at last.
fn fill<K: Copy + Eq + Hash>(
    buckets: &mut HashMap<K, Bucket>,
    key: K,
    rate: Rate,
    now: Instant,
) -> &mut Bucket {
    if buckets.len() >= ACCOUNTS && !buckets.contains_key(&key) {
        forget(buckets, rate, now);
    }
    let bucket = buckets.entry(key).or_insert(Bucket {
        left: rate.burst,
        filled: now,
    });
    let refill = now.saturating_duration_since(bucket.filled).as_secs_f64() * rate.per_second;
    *bucket = Bucket {
        left: (bucket.left + refill).min(rate.burst),
        filled: now,
    };
    bucket
}

fn spend(bucket: &mut Bucket) -> bool {
    let allowed = bucket.left >= 1.0;
    if allowed {
        bucket.left -= 1.0;
    }
    allowed
}

/// Forgets those whose buckets are full again, which changes nothing for them; if there are none, the one that was idle longest.
fn forget<K: Copy + Eq + Hash>(buckets: &mut HashMap<K, Bucket>, rate: Rate, now: Instant) {
    let whole = rate.whole();
    buckets.retain(|_, bucket| now.saturating_duration_since(bucket.filled) < whole);
    if buckets.len() >= ACCOUNTS
        && let Some(idle) = buckets
            .iter()
            .min_by_key(|(_, bucket)| bucket.filled)
            .map(|(key, _)| *key)
    {
        buckets.remove(&idle);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_allowed_and_then_the_average() {
        let (limiter, start) = (Limiter::new(10, 3), Instant::now());
        assert!((0..3).all(|_| limiter.take(1, 1, start)));
        assert!(!limiter.take(1, 1, start));
        assert!(
            limiter.take(2, 1, start),
            "another control group has a bucket of its own"
        );
        let later = start + Duration::from_millis(110);
        assert!(limiter.take(1, 1, later));
        assert!(!limiter.take(1, 1, later));
    }

    #[test]
    fn a_user_with_many_control_groups_has_four_times_the_rate_and_others_keep_theirs() {
        let (limiter, start) = (Limiter::new(10, 3), Instant::now());
        let allowed = |uid, at| (0..1_000).filter(|group| limiter.take(*group, uid, at)).count();
        assert_eq!(allowed(1000, start), 12);
        assert_eq!(allowed(1000, start + Duration::from_secs(1)), 12);
        assert!(limiter.take(u64::MAX, 1001, start));
    }

    #[test]
    fn a_changed_rate_counts_at_once() {
        let (limiter, start) = (Limiter::new(10, 3), Instant::now());
        assert_eq!((0..10).filter(|_| limiter.take(1, 1, start)).count(), 3);
        limiter.set_rate(100, 100);
        let later = start + Duration::from_millis(105);
        assert_eq!((0..100).filter(|_| limiter.take(1, 1, later)).count(), 10);
        limiter.set_rate(1, 1);
        let later = later + Duration::from_secs(60);
        assert_eq!((0..100).filter(|_| limiter.take(1, 1, later)).count(), 1);
    }

    #[test]
    fn accounts_are_bounded_and_a_busy_one_is_not_forgotten() {
        let (limiter, start) = (Limiter::new(1, 1), Instant::now());
        for account in 0..10_000 {
            let (uid, now) = (account as u32, start + Duration::from_micros(account));
            limiter.take(account, uid, now);
            limiter.take(u64::MAX, u32::MAX, now);
        }
        let buckets = limiter.buckets();
        assert!(buckets.by_account.len() <= ACCOUNTS && buckets.by_user.len() <= ACCOUNTS);
        drop(buckets);
        assert!(!limiter.take(u64::MAX, u32::MAX, start + Duration::from_micros(10_001)));
    }
}
