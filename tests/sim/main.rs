//! Authorities and everything below them, simulated: the real machines (`ca::life`, `rotate::Renewals`, the validity of leaves) in a world of random lifetimes, restarts,
//! outages, hanging nodes, clocks that are set, and operators who rotate by command. Each schedule has a seed, which a failure prints.
//!
//! `MUSTER_ROUNDS` says how many schedules; `MUSTER_SEED` replays one.

#![expect(
    clippy::unwrap_used,
    reason = "a simulation that can't go on says so by a panic"
)]

mod node;
mod schedule;
mod server;

use schedule::{Figures, Schedule};

/// How many schedules without `MUSTER_ROUNDS`.
const SCHEDULES: u64 = 1_000;
/// How many leaves live in each.
const LEAVES: usize = 2_000;

#[test]
fn no_leaf_outlives_its_chain_and_no_verifier_refuses_a_live_one() {
    let only = setting("MUSTER_SEED");
    let count = setting("MUSTER_ROUNDS").unwrap_or(SCHEDULES);
    let first = only.unwrap_or(0x4d75_7374_6572);
    let count = if only.is_some() { 1 } else { count };
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    let (mut leaves, mut activations, mut revoked, mut years) = (0, 0, 0, 0.0);
    std::thread::scope(|scope| {
        let shares = (0..threads).map(|share| {
            scope.spawn(move || {
                let seeds = (first + share..first + count).step_by(usize::try_from(threads).unwrap());
                seeds.map(lived).collect::<Vec<_>>()
            })
        });
        // All are started before the first is waited for.
        for share in shares.collect::<Vec<_>>() {
            for figures in share.join().unwrap() {
                leaves += figures.leaves;
                activations += u64::from(figures.activations);
                revoked += figures.revoked;
                years += figures.seconds as f64 / (365.0 * 86_400.0);
            }
        }
    });
    println!(
        "figure: {count} schedules from seed {first}: {leaves} leaves, {activations} activations, {revoked} revocations, {years:.0} years"
    );
    assert!(activations >= count && leaves >= u64::try_from(LEAVES).unwrap() * count);
}

fn lived(seed: u64) -> Figures {
    let failed = FailedSeed(seed);
    let figures = Schedule::new(seed, LEAVES).run();
    std::mem::forget(failed);
    figures
}

/// Says which schedule it was when a panic goes by.
struct FailedSeed(u64);

impl Drop for FailedSeed {
    fn drop(&mut self) {
        println!("seed {0}; replay it with MUSTER_SEED={0}", self.0);
    }
}

#[expect(clippy::disallowed_methods, reason = "a test's only settings")]
fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}
