//! How long to wait before the next try.

use std::time::Duration;

use aws_lc_rs::rand::fill;

/// Exponential waiting with jitter: each wait is drawn from the upper half of a window that doubles up to a longest one.
///
/// The jitter is what keeps a thousand nodes from returning in the same second after an outage.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    window: Duration,
}

impl Backoff {
    /// Waits of about `first` at the beginning and `longest` at the end.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            window: first,
        }
    }

    /// The next wait: between half of the window and all of it.
    pub fn next_wait(&mut self) -> Duration {
        let window = self.window.min(self.longest);
        self.window = self.window.saturating_mul(2).min(self.longest);
        let half = window / 2;
        half + half.mul_f64(fraction())
    }

    /// Begins anew, after a success.
    pub fn reset(&mut self) {
        self.window = self.first;
    }
}

/// A random number in 0..1. Without random bytes there is no jitter, which is a loss but no danger.
fn fraction() -> f64 {
    let mut bytes = [0; 4];
    if fill(&mut bytes).is_err() {
        return 0.5;
    }
    f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_keep_their_jitter() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
        for window in [1, 2, 4, 8, 16, 30, 30] {
            let wait = backoff.next_wait();
            let window = Duration::from_secs(window);
            assert!(wait >= window / 2 && wait <= window, "{wait:?} for {window:?}");
        }
        backoff.reset();
        assert!(backoff.next_wait() <= Duration::from_secs(1));
    }
}
