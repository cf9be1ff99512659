use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::ca::Kind;

const HOUR: u64 = 3600;

/// Carries out `order` at `now`, as the keeper does.
fn carry_out(held: &mut Vec<Authority>, order: &Order, made: &mut u32, life: Duration, now: UnixTime) {
    *held = std::mem::take(held)
        .into_iter()
        .filter_map(|authority| {
            let stage = order.leaves(&authority)?;
            Some(Authority { stage, ..authority })
        })
        .collect();
    if *order == Order::Prepare {
        *made += 1;
        held.push(authority(&made.to_string(), Stage::Prepared, now, life));
    }
}

fn authority(id: &str, stage: Stage, issued_at: UnixTime, life: Duration) -> Authority {
    Authority {
        id: id.into(),
        issued_at,
        not_after: issued_at.saturating_add(life),
        stage,
        upstream: None,
    }
}

fn at(seconds: i64) -> UnixTime {
    UnixTime::from_secs(seconds)
}

/// Runs the machine from `start`, executing each order at once, and hands every state to `check` before each step.
fn live(
    life: Duration,
    leaf: Duration,
    spread: Spread,
    until: i64,
    mut check: impl FnMut(&[Authority], UnixTime),
) -> Vec<(i64, Order)> {
    let (mut held, mut orders, mut made) = (Vec::<Authority>::new(), Vec::new(), 0);
    let mut now = at(0);
    while now.as_secs() < until {
        while let Some(order) = due(&held, leaf, spread, None, now) {
            carry_out(&mut held, &order, &mut made, life, now);
            orders.push((now.as_secs(), order));
            assert!(orders.len() < 10_000, "the machine turns in place");
        }
        check(&held, now);
        now = next_wake(&held, now);
    }
    orders
}

#[test]
fn a_day_goes_by_spires_thresholds() {
    let orders = live(
        Duration::from_secs(24 * HOUR),
        Duration::from_secs(4 * HOUR),
        Spread::Everywhere,
        50 * HOUR as i64,
        |_, _| {},
    );
    let hours: Vec<_> = orders
        .iter()
        .map(|(at, order)| (at / HOUR as i64, order.clone()))
        .collect();
    let id = |id: &str| id.to_owned();
    assert_eq!(
        hours,
        [
            (0, Order::Prepare),
            (0, Order::Activate(id("1"))),
            (12, Order::Prepare),
            (20, Order::Activate(id("2"))),
            (24, Order::Prepare),
            (32, Order::Activate(id("3"))),
            (36, Order::Prepare),
            (44, Order::Activate(id("4"))),
            (48, Order::Prepare),
            (48, Order::Prune(id("1"))),
        ]
    );
}

const SECONDS: fn(u64) -> Duration = Duration::from_secs;

#[test]
fn a_server_that_slept_past_the_end_makes_a_new_authority_at_once() {
    let old = [authority("1", Stage::Active, at(0), SECONDS(100))];
    let due = |spread, now| due(&old, SECONDS(10), spread, None, at(now));
    assert_eq!(due(Spread::Underway, 100), Some(Order::Prepare));
    assert_eq!(due(Spread::Everywhere, 10), None);
}

#[test]
fn a_prepared_authority_that_would_end_before_its_leaves_is_never_activated() {
    let held = [
        authority("1", Stage::Active, at(0), SECONDS(1000)),
        authority("2", Stage::Prepared, at(0), SECONDS(1010)),
    ];
    for awaited in [None, Some("2")] {
        let order = due(&held, SECONDS(100), Spread::Everywhere, awaited, at(950));
        assert_eq!(order, Some(Order::Discard("2".into())));
    }
    let command = Command::Activate("2".into());
    let refused = decide(
        Kind::X509,
        &held,
        Published::Trusted,
        &command,
        SECONDS(100),
        at(950),
    );
    assert_eq!(refused, Err(Refused::EndsTooSoon));
}

#[test]
fn a_clock_set_back_gets_an_authority_that_counts_now() {
    let ahead = [authority("1", Stage::Active, at(100_000), SECONDS(100_000))];
    let order = due(&ahead, SECONDS(10), Spread::Everywhere, None, at(5_000));
    assert_eq!(order, Some(Order::Prepare));
}

#[test]
fn nothing_signs_before_every_node_holds_it_or_ten_seconds_have_passed() {
    // Active until 900 of 1000, another prepared late; the same with nothing that signs, which is no reason to hurry either; and one that somebody hurries.
    let next = || authority("2", Stage::Prepared, at(880), SECONDS(1000));
    let late = [authority("1", Stage::Active, at(0), SECONDS(1000)), next()];
    let alone = [authority("1", Stage::Old, at(0), SECONDS(880)), next()];
    let early = [authority("1", Stage::Active, at(880), SECONDS(1000)), next()];
    for (held, awaited) in [(late, None), (alone, None), (early, Some("2"))] {
        let due = |spread, now| due(&held, SECONDS(100), spread, awaited, at(now));
        let activate = Some(Order::Activate("2".into()));
        assert_eq!(due(Spread::Underway, 890), None);
        assert_eq!(next_wake(&held, at(885)), at(891));
        assert_eq!(due(Spread::Underway, 891), activate);
        assert_eq!(due(Spread::Everywhere, 881), activate);
    }
}

#[test]
fn commands_are_for_the_authority_in_the_right_stage_and_no_other() {
    let held = [
        authority("tainted", Stage::Tainted, at(0), SECONDS(5000)),
        authority("old", Stage::Old, at(10), SECONDS(5000)),
        authority("active", Stage::Active, at(20), SECONDS(5000)),
        authority("prepared", Stage::Prepared, at(30), SECONDS(5000)),
    ];
    let told = |kind, command: fn(String) -> Command, id: &str| {
        decide(
            kind,
            &held,
            Published::Absent,
            &command(id.into()),
            SECONDS(100),
            at(40),
        )
    };
    use Kind::{Jwt, X509};
    use Refused::*;
    for kind in [X509, Jwt] {
        assert_eq!(
            told(kind, Command::Activate, "prepared"),
            Ok(Order::Activate("prepared".into()))
        );
        assert_eq!(told(kind, Command::Taint, "old"), Ok(Order::Taint("old".into())));
        assert_eq!(
            told(kind, Command::Revoke, "tainted"),
            Ok(Order::Revoke("tainted".into()))
        );
        for command in [Command::Activate, Command::Taint, Command::Revoke] {
            assert_eq!(told(kind, command, ""), Err(NoId));
        }
        for id in ["tainted", "old", "active", "unknown"] {
            assert_eq!(told(kind, Command::Activate, id), Err(Unexpected));
        }
        assert_eq!(told(kind, Command::Taint, "active"), Err(TaintsActive));
        assert_eq!(told(kind, Command::Taint, "prepared"), Err(TaintsPrepared));
        assert_eq!(told(kind, Command::Taint, "tainted"), Err(TaintedAlready(kind)));
        assert_eq!(told(kind, Command::Taint, "unknown"), Err(Unexpected));
        assert_eq!(told(kind, Command::Revoke, "active"), Err(RevokesActive));
        assert_eq!(told(kind, Command::Revoke, "old"), Err(Untainted(kind)));
        assert_eq!(told(kind, Command::Revoke, "unknown"), Err(NotOld(kind)));
    }
    assert_eq!(told(X509, Command::Revoke, "prepared"), Err(NotOld(X509)));
    assert_eq!(told(Jwt, Command::Revoke, "prepared"), Err(RevokesPrepared));
}

#[test]
fn a_key_that_another_server_published_can_be_revoked_once_it_is_tainted() {
    let held = [authority("active", Stage::Active, at(0), SECONDS(5000))];
    let told = |kind, published| {
        decide(
            kind,
            &held,
            published,
            &Command::Revoke("kid".into()),
            SECONDS(100),
            at(1),
        )
    };
    assert_eq!(
        told(Kind::Jwt, Published::Tainted),
        Ok(Order::Revoke("kid".into()))
    );
    assert_eq!(
        told(Kind::Jwt, Published::Trusted),
        Err(Refused::Untainted(Kind::Jwt))
    );
    assert_eq!(
        told(Kind::X509, Published::Tainted),
        Err(Refused::NotOld(Kind::X509))
    );
}

#[test]
fn a_root_of_our_own_from_before_there_was_an_upstream_is_taken_out_as_ever() {
    let below = Authority {
        upstream: Some("root".into()),
        ..authority("2", Stage::Active, at(0), SECONDS(5000))
    };
    for (stage, command, order) in [
        (Stage::Old, Command::Taint("1".into()), Order::Taint("1".into())),
        (
            Stage::Tainted,
            Command::Revoke("1".into()),
            Order::Revoke("1".into()),
        ),
    ] {
        let held = [authority("1", stage, at(0), SECONDS(5000)), below.clone()];
        let decided = decide(
            Kind::X509,
            &held,
            Published::Trusted,
            &command,
            SECONDS(100),
            at(1),
        );
        assert_eq!(decided, Ok(order));
    }
}

#[test]
fn a_key_that_another_server_published_is_tainted_and_then_revoked() {
    let held = [authority("ours", Stage::Active, at(0), SECONDS(5000))];
    let told = |published, command| decide(Kind::Jwt, &held, published, &command, SECONDS(100), at(1));
    let (taint, revoke) = (Command::Taint("theirs".into()), Command::Revoke("theirs".into()));
    assert_eq!(told(Published::Absent, taint.clone()), Err(Refused::Unexpected));
    assert_eq!(
        told(Published::Trusted, revoke.clone()),
        Err(Refused::Untainted(Kind::Jwt))
    );
    assert_eq!(
        told(Published::Trusted, taint.clone()),
        Ok(Order::Taint("theirs".into()))
    );
    assert_eq!(
        told(Published::Tainted, taint),
        Err(Refused::TaintedAlready(Kind::Jwt))
    );
    assert_eq!(
        told(Published::Tainted, revoke),
        Ok(Order::Revoke("theirs".into()))
    );
}

#[test]
fn before_anything_signs_and_below_an_upstream_commands_are_refused() {
    let told = |held: &[Authority], command| {
        decide(Kind::X509, held, Published::Absent, &command, SECONDS(100), at(1))
    };
    assert_eq!(told(&[], Command::Prepare), Err(Refused::Initializing));
    let below = |id: &str, stage| Authority {
        upstream: Some("root".into()),
        ..authority(id, stage, at(0), SECONDS(5000))
    };
    let held = [below("1", Stage::Old), below("2", Stage::Active)];
    assert_eq!(told(&held, Command::Prepare), Ok(Order::Prepare));
    assert_eq!(
        told(&held, Command::Taint("1".into())),
        Err(Refused::TaintsBelowUpstream)
    );
    assert_eq!(
        told(&held, Command::Revoke("1".into())),
        Err(Refused::RevokesBelowUpstream)
    );
}

/// What somebody does to a server: waits, or commands something of the authority with this number among those held.
#[derive(Clone, Copy, Debug)]
enum Act {
    Wait(u32),
    Prepare,
    Activate(usize),
    Taint(usize),
    Revoke(usize),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        (0_u32..5_000).prop_map(Act::Wait),
        Just(Act::Prepare),
        (0_usize..8).prop_map(Act::Activate),
        (0_usize..8).prop_map(Act::Taint),
        (0_usize..8).prop_map(Act::Revoke),
    ];
    proptest::collection::vec(act, 1..200)
}

proptest! {
    #[test]
    fn at_every_wake_an_authority_signs_that_outlives_the_longest_leaf_allowed(
        life in SHORTEST.as_secs()..10_000_000,
        part in 2_u32..100,
        slow in proptest::bool::ANY,
    ) {
        let life = Duration::from_secs(life);
        let leaf = longest_leaf(life).min(life / part);
        let until = i64::try_from(life.as_secs()).unwrap() * 8;
        let spread = if slow { Spread::Underway } else { Spread::Everywhere };
        let mut activated = BTreeMap::new();
        let mut began = None;
        live(life, leaf, spread, until, |held, now| {
            let active: Vec<_> = held.iter().filter(|a| a.stage == Stage::Active).collect();
            let Some(first) = active.first() else {
                // Only the very first may be waited for.
                assert!(spread == Spread::Underway && now.as_secs() <= 11 && began.is_none());
                return;
            };
            began = Some(now);
            assert_eq!(active.len(), 1);
            assert!(first.counts_at(now));
            let since = *activated.entry(first.id.clone()).or_insert(now);
            assert!(first.not_after >= since.saturating_add(leaf).saturating_add(PROPAGATION));
            assert!(held.len() <= 6, "{held:?}");
        });
    }

    /// Whatever is commanded, and whenever: one signs that counts, there is a bound to what is held, nothing leaves the bundle that signed something which counts still unless
    /// it was tainted and then revoked, and nothing signs before it is known or after it was one.
    #[test]
    fn no_commands_bring_the_machine_off_its_way(acts in acts(), slow in proptest::bool::ANY) {
        let (life, leaf) = (SECONDS(8_000), SECONDS(600));
        let spread = if slow { Spread::Underway } else { Spread::Everywhere };
        let (mut held, mut made, mut awaited) = (Vec::new(), 0, None::<String>);
        let mut ever_active = std::collections::BTreeSet::new();
        let mut now = at(0);
        for act in std::iter::once(Act::Wait(20)).chain(acts) {
            let id = |number: usize| held.get(number).map_or_else(String::new, |one: &Authority| one.id.clone());
            let (command, until) = match act {
                Act::Wait(seconds) => (None, now.saturating_add(SECONDS(seconds.into()))),
                Act::Prepare => (Some(Command::Prepare), now),
                Act::Activate(number) => (Some(Command::Activate(id(number))), now),
                Act::Taint(number) => (Some(Command::Taint(id(number))), now),
                Act::Revoke(number) => (Some(Command::Revoke(id(number))), now),
            };
            let before = held.clone();
            match command.map(|command| decide(Kind::X509, &held, Published::Absent, &command, leaf, now)) {
                Some(Ok(Order::Activate(id))) => awaited = Some(id),
                Some(Ok(order)) => {
                    carry_out(&mut held, &order, &mut made, life, now);
                    for gone in before.iter().filter(|one| !held.iter().any(|kept| kept.id == one.id)) {
                        prop_assert!(matches!(gone.stage, Stage::Prepared | Stage::Tainted), "{order:?} {gone:?}");
                    }
                }
                Some(Err(_)) | None => {}
            }
            loop {
                while let Some(order) = due(&held, leaf, spread, awaited.as_deref(), now) {
                    let before = held.clone();
                    if let Order::Activate(id) = &order {
                        let next = before.iter().find(|one| one.id == *id).unwrap();
                        prop_assert!(ever_active.insert(id.clone()), "{id} signs again");
                        prop_assert!(spread == Spread::Everywhere || now >= next.known_at());
                        prop_assert!(next.not_after >= now.saturating_add(leaf).saturating_add(PROPAGATION));
                        awaited = None;
                    }
                    carry_out(&mut held, &order, &mut made, life, now);
                    for gone in before.iter().filter(|one| !held.iter().any(|kept| kept.id == one.id)) {
                        prop_assert!(gone.stage == Stage::Prepared || gone.not_after <= now, "{order:?} {gone:?}");
                    }
                }
                if let Some(active) = active(&held) {
                    prop_assert!(active.counts_at(now));
                    prop_assert_eq!(held.iter().filter(|one| one.stage == Stage::Active).count(), 1);
                } else {
                    // Before the first one is known, and no later.
                    prop_assert!(now <= at(11) && ever_active.is_empty());
                }
                prop_assert!(held.len() <= 16 + 2);
                let wake = next_wake(&held, now);
                if wake > until {
                    break;
                }
                now = wake;
            }
            now = until;
        }
    }
}

/// Below an upstream's `root`, from second 0 to `life`.
fn below(root: &str, stage: Stage, life: i64) -> Authority {
    Authority {
        id: format!("{root}-{stage:?}"),
        issued_at: UnixTime::from_secs(0),
        not_after: UnixTime::from_secs(life),
        stage,
        upstream: Some(root.to_owned()),
    }
}

#[test]
fn below_an_upstream_a_life_that_is_shorter_than_a_leaf_is_lived_all_the_same() {
    let leaf = Duration::from_secs(4 * HOUR);
    let prepared = [below("a", Stage::Prepared, 20)];
    let at = |second| {
        due(
            &prepared,
            leaf,
            Spread::Everywhere,
            None,
            UnixTime::from_secs(second),
        )
    };
    // Another one would not live longer: it would be made and thrown away for ever.
    assert_eq!(at(0), Some(Order::Activate("a-Prepared".into())));
    assert_eq!(at(11), Some(Order::Discard("a-Prepared".into())));
}

#[test]
fn a_root_that_is_to_be_left_is_left_when_everybody_had_the_time_to_hear_of_the_other() {
    let leaf = Duration::from_secs(60);
    let due = |held: &[Authority], second| {
        let leaving = |root: &str| root == "old";
        let now = UnixTime::from_secs(second);
        due_below(held, leaf, Spread::Everywhere, None, leaving, now)
    };
    let active = below("old", Stage::Active, 10_000);
    assert_eq!(due(std::slice::from_ref(&active), 1), Some(Order::Prepare));
    let next = below("new", Stage::Prepared, 10_000);
    assert_eq!(due(&[active.clone(), next.clone()], 10), None);
    let activate = Some(Order::Activate("new-Prepared".into()));
    assert_eq!(due(&[active.clone(), next], 11), activate);
    let no_better = below("old", Stage::Prepared, 10_000);
    let discard = Some(Order::Discard("old-Prepared".into()));
    assert_eq!(due(&[active, no_better.clone()], 1), discard);
    // Where nothing signs, one under such a root is better than none.
    assert_eq!(due(&[no_better], 1), Some(Order::Activate("old-Prepared".into())));
}
