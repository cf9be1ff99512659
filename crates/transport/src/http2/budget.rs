//! How many frames that cost us work and bring no request a peer may send.

use std::time::{Duration, Instant};

/// What a connection may spend at once.
const FULL: u32 = 2_000;

/// What comes back each second, answers or not.
const REFILL: u32 = 100;

/// What each HEADERS or DATA frame of an answer gives: clients acknowledge data with WINDOW_UPDATE, and some measure
/// the line with a PING for each message.
const CREDIT: u32 = 4;

/// A cancelled request cost us more than a PING did.
pub(crate) const RESET_COST: u32 = 8;

/// Tokens of one connection. PING, SETTINGS, RST_STREAM, WINDOW_UPDATE, PRIORITY, unknown and empty frames cost some
/// (rapid reset, CVE-2023-44487, and the floods of RFC 9113 10.5).
#[derive(Debug)]
pub(crate) struct Budget {
    tokens: u32,
    filled: Option<Instant>,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            tokens: FULL,
            filled: None,
        }
    }
}

impl Budget {
    /// Pays for a frame; false if the peer has spent everything. The clock is asked only when tokens run out, since
    /// honest peers never come near.
    pub(crate) fn pay(&mut self, cost: u32, now: impl FnOnce() -> Instant) -> bool {
        if self.tokens < cost {
            self.refill(now());
        }
        match self.tokens.checked_sub(cost) {
            Some(rest) => {
                self.tokens = rest;
                true
            }
            None => false,
        }
    }

    pub(crate) fn credit(&mut self) {
        self.tokens = self.tokens.saturating_add(CREDIT).min(FULL);
    }

    fn refill(&mut self, now: Instant) {
        let Some(filled) = self.filled else {
            // The first time that all is spent: from now on, time counts.
            self.filled = Some(now);
            self.tokens = self.tokens.saturating_add(REFILL).min(FULL);
            return;
        };
        let seconds = now.saturating_duration_since(filled).as_secs();
        if seconds > 0 {
            let gained = u32::try_from(seconds).unwrap_or(u32::MAX).saturating_mul(REFILL);
            self.tokens = self.tokens.saturating_add(gained).min(FULL);
            self.filled = Some(filled + Duration::from_secs(seconds));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_ends_and_time_gives_a_little_back() {
        let start = Instant::now();
        let mut budget = Budget::default();
        let paid = (0..10_000).take_while(|_| budget.pay(1, || start)).count();
        assert_eq!(paid, (FULL + REFILL) as usize);
        let later = start + Duration::from_secs(2);
        let paid = (0..10_000).take_while(|_| budget.pay(1, || later)).count();
        assert_eq!(paid, 2 * REFILL as usize);
    }

    #[test]
    fn answers_pay_for_the_pings_that_go_with_them() {
        let start = Instant::now();
        let mut budget = Budget::default();
        for _ in 0..100_000 {
            assert!(budget.pay(1, || start) && budget.pay(1, || start));
            budget.credit();
        }
    }

    #[test]
    fn an_hour_of_silence_gives_no_more_than_a_full_purse() {
        let start = Instant::now();
        let mut budget = Budget::default();
        while budget.pay(1, || start) {}
        let later = start + Duration::from_secs(3_600);
        let paid = (0..10_000).take_while(|_| budget.pay(1, || later)).count();
        assert_eq!(paid, FULL as usize);
    }
}
