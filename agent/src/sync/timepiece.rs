//! Two clocks beside each other.

use muster_identity::UnixTime;
use tokio::time::Instant;

/// How many seconds the two may differ: more than rounding and a busy machine, less than what matters to a credential.
const TOLERANCE: u64 = 20;

/// Compares the wall clock with the monotonic one. The latter is not set by anybody and stands still while the machine sleeps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timepiece {
    wall: UnixTime,
    steady: Instant,
}

impl Timepiece {
    pub(super) fn new(now: UnixTime) -> Self {
        Self {
            wall: now,
            steady: Instant::now(),
        }
    }

    /// By how many seconds the wall clock has jumped since the last look, if it has.
    pub(super) fn jumped(&mut self, now: UnixTime) -> Option<i64> {
        let passed = i64::try_from(self.steady.elapsed().as_secs()).unwrap_or(i64::MAX);
        let jump = now
            .as_secs()
            .saturating_sub(self.wall.as_secs())
            .saturating_sub(passed);
        *self = Self::new(now);
        (jump.unsigned_abs() > TOLERANCE).then_some(jump)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_is_seen_once_and_in_both_directions() {
        let mut timepiece = Timepiece::new(UnixTime::from_secs(1_000));
        assert_eq!(timepiece.jumped(UnixTime::from_secs(1_003)), None);
        assert_eq!(timepiece.jumped(UnixTime::from_secs(29_803)), Some(28_800));
        assert_eq!(timepiece.jumped(UnixTime::from_secs(29_804)), None);
        assert_eq!(timepiece.jumped(UnixTime::from_secs(804)), Some(-29_000));
        let (first, last) = (UnixTime::from_secs(i64::MIN), UnixTime::from_secs(i64::MAX));
        assert_eq!(Timepiece::new(last).jumped(first), Some(i64::MIN));
        assert_eq!(Timepiece::new(first).jumped(last), Some(i64::MAX));
    }
}
