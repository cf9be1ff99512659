//! The only place that asks the system what time it is.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use muster_identity::UnixTime;
use tokio::sync::watch;

/// The longest time that a sleeper trusts the monotonic clock. The wall clock may be set and the machine may sleep; both are noticed within this time.
const LONGEST_NAP: Duration = Duration::from_secs(5);

/// Tells the time and waits for it.
pub trait Clock: fmt::Debug + Send + Sync {
    /// The time now, in whole seconds.
    fn now(&self) -> UnixTime;

    /// Returns once [`Clock::now`] is at or after `at`.
    fn sleep_until<'a>(&'a self, at: UnixTime) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

/// A clock that stands still until it is told to move. For tests and simulations.
#[derive(Clone, Debug)]
pub struct ManualClock {
    now: Arc<watch::Sender<UnixTime>>,
}

/// The wall clock, with its fractions.
#[expect(clippy::disallowed_methods, reason = "this is the home of the clock")]
pub(crate) fn system_time() -> SystemTime {
    SystemTime::now()
}

impl SystemClock {
    /// The time since the epoch; a clock before 1970 counts as 1970.
    fn since_epoch() -> Duration {
        system_time().duration_since(UNIX_EPOCH).unwrap_or_default()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> UnixTime {
        UnixTime::from_secs(i64::try_from(Self::since_epoch().as_secs()).unwrap_or(i64::MAX))
    }

    fn sleep_until<'a>(&'a self, at: UnixTime) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async move {
            let at = Duration::from_secs(u64::try_from(at.as_secs()).unwrap_or(0));
            while let Some(left) = at.checked_sub(Self::since_epoch()).filter(|left| !left.is_zero()) {
                tokio::time::sleep(left.min(LONGEST_NAP)).await;
            }
        })
    }
}

impl ManualClock {
    /// A clock that stands at `now`.
    pub fn new(now: UnixTime) -> Self {
        Self {
            now: Arc::new(watch::Sender::new(now)),
        }
    }

    /// Moves the clock, also backwards, and wakes who waits.
    pub fn set(&self, now: UnixTime) {
        self.now.send_replace(now);
    }

    /// Moves the clock forward by whole seconds.
    pub fn advance(&self, by: Duration) {
        self.now.send_modify(|now| *now = now.saturating_add(by));
    }
}

impl Clock for ManualClock {
    fn now(&self) -> UnixTime {
        *self.now.borrow()
    }

    fn sleep_until<'a>(&'a self, at: UnixTime) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        let mut moved = self.now.subscribe();
        Box::pin(async move {
            // The sender lives as long as the borrow of self.
            moved.wait_for(|now| *now >= at).await.ok();
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sleeper_wakes_when_the_manual_clock_reaches_its_time() {
        let clock = ManualClock::new(UnixTime::from_secs(100));
        let sleeper = clock.sleep_until(UnixTime::from_secs(160));
        let mover = async {
            clock.advance(Duration::from_secs(59));
            assert_eq!(clock.now(), UnixTime::from_secs(159));
            clock.advance(Duration::from_secs(1));
        };
        tokio::join!(sleeper, mover);
        assert_eq!(clock.now(), UnixTime::from_secs(160));
    }

    #[tokio::test]
    async fn a_time_that_has_passed_is_not_waited_for() {
        SystemClock.sleep_until(UnixTime::from_secs(0)).await;
        assert!(SystemClock.now() > UnixTime::from_secs(1_700_000_000));
    }
}
