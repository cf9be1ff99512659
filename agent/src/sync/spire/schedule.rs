//! When the server is polled.

use std::time::Duration;

use tokio::time::Instant;

use crate::rotate::Jitter;

/// How often, while all is well: SPIRE's agents do the same, and its servers are sized for it.
const INTERVAL: Duration = Duration::from_secs(5);
/// The longest wait after failures: 48 intervals, at most eight minutes.
const LONGEST: Duration = Duration::from_secs(240);

/// When to poll next. No poll begins while one runs.
#[derive(Debug)]
pub(super) struct Schedule {
    jitter: Jitter,
    /// Without jitter.
    wait: Duration,
    step: Step,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Step {
    Waiting(Instant),
    Running,
}

/// How a poll ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Outcome {
    /// The view is whole.
    Whole,
    /// It brought nothing. `hungry` when no SVID is held at all: then waiting longer spares the server less than it costs the workloads.
    Failed { hungry: bool },
}

impl Schedule {
    /// Due at once: a new connection may be a new server's, and the first call on it brings a new certificate of this node into force.
    pub(super) fn new(jitter: Jitter, now: Instant) -> Self {
        Self {
            jitter,
            wait: INTERVAL,
            step: Step::Waiting(now),
        }
    }

    /// When the next poll is due; none while one runs.
    pub(super) fn next(&self) -> Option<Instant> {
        match self.step {
            Step::Waiting(at) => Some(at),
            Step::Running => None,
        }
    }

    /// Whether a poll is to begin now. It has begun then, and needs a [`Schedule::ended`].
    pub(super) fn begins(&mut self, now: Instant) -> bool {
        let begins = self.next().is_some_and(|at| at <= now);
        if begins {
            self.step = Step::Running;
        }
        begins
    }

    /// A poll ended.
    pub(super) fn ended(&mut self, outcome: Outcome, now: Instant) {
        self.wait = match outcome {
            Outcome::Whole | Outcome::Failed { hungry: true } => INTERVAL,
            Outcome::Failed { hungry: false } => (self.wait * 3 / 2).min(LONGEST),
        };
        let wait = i64::try_from(self.wait.as_millis()).unwrap_or(i64::MAX);
        let drawn = self.jitter.between(wait - wait / 10, wait + wait / 10);
        self.step = Step::Waiting(now + Duration::from_millis(drawn.unsigned_abs()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The wait that follows `outcome`, in seconds.
    fn wait(schedule: &mut Schedule, outcome: Outcome) -> f64 {
        let now = schedule.next().unwrap();
        assert!(!schedule.begins(now - Duration::from_millis(1)));
        assert!(schedule.begins(now) && schedule.next().is_none() && !schedule.begins(now));
        schedule.ended(outcome, now);
        (schedule.next().unwrap() - now).as_secs_f64()
    }

    #[test]
    fn while_all_is_well_it_is_polled_every_five_seconds_give_or_take_a_tenth() {
        let mut schedule = Schedule::new(Jitter::seeded(3), Instant::now());
        let waits: Vec<f64> = (0..200).map(|_| wait(&mut schedule, Outcome::Whole)).collect();
        assert!(waits.iter().all(|wait| (4.5..=5.5).contains(wait)));
        assert!(waits.iter().any(|wait| *wait < 4.7) && waits.iter().any(|wait| *wait > 5.3));
    }

    #[test]
    fn waits_grow_by_half_with_each_failure_and_begin_anew_after_a_success() {
        let mut schedule = Schedule::new(Jitter::seeded(3), Instant::now());
        let failed = Outcome::Failed { hungry: false };
        let mut expected = 5.0;
        for _ in 0..20 {
            expected = f64::min(expected * 1.5, 240.0);
            let wait = wait(&mut schedule, failed);
            assert!(
                (expected * 0.89..=expected * 1.11).contains(&wait),
                "{wait} for {expected}"
            );
        }
        assert!(wait(&mut schedule, Outcome::Whole) <= 5.5);
    }

    #[test]
    fn who_holds_nothing_does_not_wait_longer() {
        let mut schedule = Schedule::new(Jitter::seeded(3), Instant::now());
        for _ in 0..20 {
            assert!(wait(&mut schedule, Outcome::Failed { hungry: true }) <= 5.5);
        }
    }
}
