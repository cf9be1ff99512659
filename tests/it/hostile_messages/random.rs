//! Numbers that a seed repeats.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

/// The seed of this run: `MUSTER_SEED`, else another each time.
#[expect(
    clippy::disallowed_methods,
    reason = "whoever repeats a run says so in the environment"
)]
pub(super) fn seed() -> u64 {
    let given = std::env::var("MUSTER_SEED").ok();
    let given = given.map(|text| text.parse().expect("MUSTER_SEED is a number"));
    given.unwrap_or_else(|| RandomState::new().build_hasher().finish())
}

/// SplitMix64.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("below a usize")
    }

    /// Once in `times`.
    pub(super) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub(super) fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    pub(super) fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most + 1))
            .map(|_| self.next().to_le_bytes()[0])
            .collect()
    }
}
