use proptest::prelude::*;

use super::*;

fn at(seconds: i64) -> UnixTime {
    UnixTime::from_secs(seconds)
}

fn issued(now: i64, life: i64) -> Outcome {
    Outcome::Issued(Validity {
        received: at(now),
        ends: at(now + life),
    })
}

/// Runs until `end`; the server answers as `answer` says. Returns when each try was.
fn run(renewals: &mut Renewals<u32>, end: i64, mut answer: impl FnMut(u32, i64) -> Outcome) -> Vec<i64> {
    let mut tries = Vec::new();
    while let Some(wake) = renewals.next_wake().filter(|wake| wake.as_secs() < end) {
        for key in renewals.due(wake, usize::MAX) {
            tries.push(wake.as_secs());
            renewals.finished(&key, answer(key, wake.as_secs()), wake);
        }
    }
    tries
}

#[test]
fn a_year_of_hourly_credentials_is_renewed_at_half_life() {
    let mut renewals = Renewals::new(Jitter::seeded(1));
    renewals.want(1, at(0));
    let year = 365 * 24 * 3600;
    let tries = run(&mut renewals, year, |_, now| issued(now, 3600));
    for pair in tries.windows(2) {
        assert!((1620..=1980).contains(&(pair[1] - pair[0])), "{pair:?}");
    }
    assert!(tries.len() > 17_000);
}

#[test]
fn makeshifts_are_asked_for_again_at_growing_intervals_until_there_is_hope_or_something_good() {
    let mut renewals = Renewals::new(Jitter::seeded(1));
    renewals.want(1, at(0));
    let day = 24 * 3600;
    let mut ask = |from: i64, end: i64, worth: Worth| {
        let mut waits = Vec::new();
        let mut last = from;
        while let Some(wake) = renewals.next_wake().filter(|wake| wake.as_secs() < end) {
            waits.push(wake.as_secs() - last);
            last = wake.as_secs();
            renewals.due(wake, 1);
            renewals.finished(&1, issued(last, day), wake);
            renewals.judge(&1, worth, wake);
        }
        renewals.hope(vec![1, 2], 1, at(end));
        waits
    };
    let waits = ask(0, 10_000, Worth::Makeshift);
    assert_eq!(waits[..8], [0, 30, 60, 120, 240, 480, 900, 900]);
    let waits = ask(10_000, 10_500, Worth::Makeshift);
    assert!((30..=30 + START_SPREAD).contains(&waits[0]), "{waits:?}");
    assert_eq!(waits[1..3], [30, 60]);
    // One that is good lives for half its life, and no hope changes that.
    let waits = ask(10_500, 12_000, Worth::Good);
    assert_eq!(waits.len(), 1, "{waits:?}");
    assert!(renewals.next_wake().unwrap().as_secs() > 12_000 + day / 3);
}

#[test]
fn an_outage_is_retried_with_growing_waits_and_the_credential_is_fought_for_at_its_end() {
    let mut renewals = Renewals::new(Jitter::seeded(2));
    renewals.held(
        1,
        Validity {
            received: at(0),
            ends: at(3600),
        },
        at(0),
    );
    let tries = run(&mut renewals, 3600, |_, _| Outcome::Unreachable);
    assert!(tries.len() > 25 && tries.len() < 120, "{}", tries.len());
    assert!(tries.iter().filter(|at| **at >= 3590).count() >= 4);
    let (failing, ends) = renewals.overdue();
    assert_eq!((failing, ends), (1, Some(at(3600))));

    renewals.hurry(at(3700));
    let tries = run(&mut renewals, 3710, |_, now| issued(now, 3600));
    assert_eq!(tries.len(), 1);
    assert_eq!(renewals.overdue(), (0, None));
}

#[test]
fn a_change_during_signing_is_signed_again() {
    let mut renewals = Renewals::new(Jitter::seeded(3));
    renewals.want(1, at(0));
    assert_eq!(renewals.due(at(0), 9), [1]);
    renewals.want(1, at(1));
    assert_eq!(renewals.next_wake(), None);
    renewals.finished(&1, issued(2, 100), at(2));
    assert_eq!(renewals.due(at(2), 9), [1]);
}

#[test]
fn a_clock_far_ahead_makes_no_storm() {
    let mut renewals = Renewals::new(Jitter::seeded(4));
    renewals.want(1, at(0));
    let tries = run(&mut renewals, 3600, |_, now| issued(now, -600));
    assert!(tries.len() < 80, "{}", tries.len());

    // Ten minutes ahead of an hour: the rest of the life is halved, never the whole.
    let mut renewals = Renewals::new(Jitter::seeded(5));
    renewals.want(1, at(0));
    let tries = run(&mut renewals, 36_000, |_, now| issued(now, 3000));
    assert!(tries.len() <= 28, "{}", tries.len());
}

#[test]
fn a_clock_that_was_set_back_renews_everything_once() {
    let mut renewals = Renewals::new(Jitter::seeded(6));
    for key in 0..100 {
        renewals.held(
            key,
            Validity {
                received: at(100_000),
                ends: at(103_600),
            },
            at(100_000),
        );
    }
    renewals.clock_was_set(at(20_000));
    let tries = run(&mut renewals, 20_010, |_, now| issued(now, 3600));
    assert_eq!(tries.len(), 100);
    assert!(tries.iter().any(|at| *at > 20_000), "spread");
}

#[test]
fn what_nobody_holds_yet_goes_first_and_batches_are_bounded() {
    let mut renewals = Renewals::new(Jitter::seeded(7));
    for key in 0..600 {
        renewals.held(
            key,
            Validity {
                received: at(0),
                ends: at(100),
            },
            at(0),
        );
    }
    renewals.want(1_000, at(90));
    let first = renewals.due(at(90), 500);
    assert_eq!((first.len(), first[0]), (500, 1_000));
    assert_eq!(renewals.due(at(90), 500).len(), 101);
}

#[derive(Clone, Debug)]
enum Move {
    Want(u8),
    Need(u8),
    Forget(u8),
    Pass(u16),
    Set(i32),
    Answer(u8, u8),
    Hurry,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        (0..8u8).prop_map(Move::Want),
        (0..8u8).prop_map(Move::Need),
        (0..8u8).prop_map(Move::Forget),
        (0..5000u16).prop_map(Move::Pass),
        (-100_000..100_000i32).prop_map(Move::Set),
        (0..8u8, 0..4u8).prop_map(|(key, how)| Move::Answer(key, how)),
        Just(Move::Hurry),
    ];
    proptest::collection::vec(one, 1..200)
}

proptest! {
    /// No order of events loses a key: each that is wanted and not forgotten waits for a time or for an outcome, and never both.
    #[test]
    fn no_key_is_ever_lost(moves in moves(), seed: u64) {
        let mut renewals = Renewals::new(Jitter::seeded(seed));
        let (mut now, mut running) = (1_000_000, BTreeSet::new());
        for step in moves {
            match step {
                Move::Want(key) => renewals.want(key, at(now)),
                Move::Need(key) => renewals.need(key, at(now)),
                Move::Forget(key) => { renewals.forget(&key); running.remove(&key); }
                Move::Pass(by) => now += i64::from(by),
                Move::Set(by) => { now += i64::from(by); renewals.clock_was_set(at(now)); }
                Move::Hurry => renewals.hurry(at(now)),
                Move::Answer(key, how) => {
                    let outcome = [issued(now, 3600), issued(now, -5), Outcome::Unreachable, Outcome::Refused][usize::from(how)];
                    renewals.finished(&key, outcome, at(now));
                    running.remove(&key);
                }
            }
            for key in renewals.due(at(now), 3) {
                prop_assert!(running.insert(key), "handed out twice");
            }
            let waiting: BTreeSet<u8> = renewals.wakes.iter().map(|(_, key)| *key).collect();
            prop_assert_eq!(waiting.len(), renewals.wakes.len());
            for key in renewals.plans.keys() {
                prop_assert!(waiting.contains(key) != running.contains(key), "key {}", key);
            }
        }
    }
}

proptest! {
    /// What is out of date is made again soon and never later than it was planned, so many in a second; what nobody planned is not.
    #[test]
    fn what_is_made_again_is_spread_and_never_put_off(seed in any::<u64>(), count in 1_usize..2_000, a_second in 1_usize..200, running in 0_usize..50) {
        let mut renewals = Renewals::new(Jitter::seeded(seed));
        let life = Validity { received: at(0), ends: at(36_000) };
        (0..count).for_each(|key| renewals.held(key, life, at(0)));
        (0..running.min(count)).for_each(|key| renewals.want(key, at(10_000)));
        let under_way = renewals.due(at(10_000), usize::MAX);
        let planned = renewals.next_wake();
        let stale: Vec<usize> = (0..count + 5).collect();
        renewals.make_again(stale, a_second, at(10_000));
        prop_assert!(renewals.next_wake() <= planned || planned.is_none());
        let (mut made, mut now) = (0, 10_000);
        let last = 10_000 + START_SPREAD + i64::try_from((count + 5) / a_second).unwrap() + 1;
        while now <= last {
            let due = renewals.due(at(now), usize::MAX);
            prop_assert!(due.len() <= a_second, "{} in one second", due.len());
            for key in due {
                prop_assert!(key < count);
                renewals.finished(&key, issued(now, 36_000), at(now));
                made += 1;
            }
            now += 1;
        }
        prop_assert_eq!(made, count - under_way.len());
        // What was under way may have been signed by what is out of date: it is made once more.
        for key in &under_way {
            renewals.finished(key, issued(now, 36_000), at(now));
        }
        prop_assert_eq!(renewals.due(at(now), usize::MAX).len(), under_way.len());
    }
}
