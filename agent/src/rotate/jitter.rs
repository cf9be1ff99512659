//! Reproducible randomness for waiting times.

/// A small generator (SplitMix64) that spreads renewals. It decides waiting times and nothing else: no secret comes from it, and a seed replays a run.
#[derive(Clone, Debug)]
pub struct Jitter {
    state: u64,
}

impl Jitter {
    /// The same seed gives the same waits.
    pub fn seeded(seed: u64) -> Self {
        Self { state: seed }
    }

    /// A seed of its own for each process, so that nodes that started together do not renew together.
    pub fn random() -> Self {
        let mut bytes = [0; 8];
        // Without random bytes all nodes share one spread, which is a loss but no danger.
        aws_lc_rs::rand::fill(&mut bytes).ok();
        Self::seeded(u64::from_le_bytes(bytes))
    }

    /// A number between `low` and `high`, both included.
    pub fn between(&mut self, low: i64, high: i64) -> i64 {
        let Some(width) = high.checked_sub(low).and_then(|width| u64::try_from(width).ok()) else {
            return low;
        };
        let drawn = match width.checked_add(1) {
            Some(values) => self.next() % values,
            None => self.next(),
        };
        low.saturating_add(i64::try_from(drawn).unwrap_or(0))
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_stay_between_their_bounds_and_a_seed_repeats_them() {
        let (mut one, mut other) = (Jitter::seeded(7), Jitter::seeded(7));
        for _ in 0..1_000 {
            let drawn = one.between(45, 55);
            assert!((45..=55).contains(&drawn));
            assert_eq!(drawn, other.between(45, 55));
        }
        assert_eq!(one.between(3, 3), 3);
        assert_eq!(one.between(5, 4), 5);
    }
}
