use super::*;

const DAY: i64 = 24 * 3_600;

fn name(index: usize) -> TrustDomain {
    format!("peer{index}.example").parse().unwrap()
}

fn at(seconds: i64) -> UnixTime {
    UnixTime::from_secs(1_800_000_000 + seconds)
}

fn peers(count: usize, seed: u64) -> Refreshes<u8> {
    let mut machine = Refreshes::new(seed);
    let wanted = (0..count).map(|index| (name(index), 0)).collect();
    assert!(machine.set(&wanted, at(0)).is_empty());
    machine
}

fn fetched(seconds: u64) -> Outcome {
    Outcome::Fetched {
        interval: Duration::from_secs(seconds),
        pushes: false,
    }
}

fn pushed() -> Outcome {
    Outcome::Fetched {
        interval: Duration::from_secs(300),
        pushes: true,
    }
}

/// Runs the machine over `days` with a world that says how each fetch ends; answers when each peer was asked.
fn simulate(
    machine: &mut Refreshes<u8>,
    days: i64,
    mut world: impl FnMut(&TrustDomain, i64) -> Outcome,
) -> BTreeMap<TrustDomain, Vec<i64>> {
    let mut asked: BTreeMap<TrustDomain, Vec<i64>> = BTreeMap::new();
    let mut second = 0;
    while second < days * DAY {
        for order in machine.due(at(second), 100) {
            asked.entry(order.trust_domain.clone()).or_default().push(second);
            let outcome = world(&order.trust_domain, second);
            machine.finished(&order.trust_domain, outcome, at(second));
        }
        let wake = machine.next_wake().expect("peers are due again").since(at(0));
        second = i64::try_from(wake.as_secs()).unwrap().max(second + 1);
    }
    asked
}

#[test]
fn over_months_each_peer_is_asked_at_its_own_hint_and_never_later() {
    for seed in 1..4 {
        let mut machine = peers(20, seed);
        let asked = simulate(&mut machine, 90, |_, _| fetched(3_600));
        assert_eq!(asked.len(), 20);
        for times in asked.values() {
            let gaps: Vec<i64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
            assert!(
                gaps.iter().all(|gap| (2_880..=3_600).contains(gap)),
                "seed {seed}"
            );
        }
        // They do not march in step.
        let last: std::collections::BTreeSet<_> = asked.values().filter_map(|times| times.last()).collect();
        assert!(last.len() > 10, "seed {seed}");
    }
}

#[test]
fn a_peer_that_is_down_for_a_month_is_tried_at_its_interval_and_keeps_nobody_waiting() {
    let mut machine = peers(2, 7);
    let down = name(0);
    let asked = simulate(&mut machine, 60, |peer, second| {
        if *peer == down && (10 * DAY..40 * DAY).contains(&second) {
            Outcome::Failed
        } else {
            fetched(300)
        }
    });
    let tries = asked[&down]
        .iter()
        .filter(|second| (10 * DAY..40 * DAY).contains(*second))
        .count();
    let most = 30 * DAY / 240 + 1;
    assert!(
        (tries as i64) <= most && tries as i64 >= 30 * DAY / 300,
        "{tries} tries"
    );
    let up: Vec<_> = asked[&name(1)].windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(up.iter().all(|gap| *gap <= 300));
}

#[test]
fn a_peer_of_which_nothing_is_known_is_tried_less_and_less_often() {
    let mut machine = peers(1, 3);
    let asked = simulate(&mut machine, 1, |_, _| Outcome::Failed);
    let times = &asked[&name(0)];
    let gaps: Vec<i64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps[0] <= 5 && gaps[3] <= 40, "{gaps:?}");
    assert!(gaps[10..].iter().all(|gap| (240..=300).contains(gap)), "{gaps:?}");
}

#[test]
fn unknown_keys_make_it_look_early_but_not_for_each() {
    let mut machine = peers(1, 5);
    let peer = name(0);
    machine.due(at(0), 1);
    machine.finished(&peer, fetched(3_600), at(0));
    let mut looked = 0;
    for second in 1..=300 {
        machine.met_unknown_key(&peer, at(second));
        for order in machine.due(at(second), 10) {
            looked += 1;
            machine.finished(&order.trust_domain, fetched(3_600), at(second));
        }
    }
    assert_eq!(looked, 10);
    machine.met_unknown_key(&name(9), at(301));
}

#[test]
fn an_endpoint_that_pushes_is_waited_for_and_one_that_answers_too_often_is_slowed_down() {
    let mut machine = peers(1, 5);
    let peer = name(0);
    assert!(!machine.due(at(0), 1)[0].wait);
    machine.finished(&peer, pushed(), at(0));
    let mut asked = 0;
    for second in 0..600 {
        // It answers within the same second, as often as it is asked.
        while let Some(order) = machine.due(at(second), 1).pop() {
            assert!(order.wait);
            asked += 1;
            machine.finished(&peer, pushed(), at(second));
        }
    }
    assert!((40..=51).contains(&asked), "{asked}");
    // One that breaks off is tried once more soon, then at its interval.
    machine.due(at(700), 1);
    machine.finished(&peer, Outcome::Failed, at(700));
    assert!(machine.next_wake().unwrap() <= at(703));
    assert!(!machine.due(at(703), 1)[0].wait);
    machine.finished(&peer, Outcome::Failed, at(703));
    assert!(machine.next_wake().unwrap() >= at(703 + 240));
}

#[test]
fn who_asks_now_does_not_wait_for_a_push_and_nothing_runs_twice() {
    let mut machine = peers(1, 5);
    let peer = name(0);
    machine.due(at(0), 1);
    assert!(machine.due(at(0), 1).is_empty(), "it runs");
    machine.refresh_now(&peer, at(0));
    assert!(
        machine.due(at(0), 1).is_empty(),
        "what runs is what was asked for"
    );
    machine.finished(&peer, pushed(), at(0));
    assert!(machine.due(at(0), 1)[0].wait);
    assert!(machine.due(at(50), 1).is_empty(), "it waits");
    assert!(machine.refresh_now(&peer, at(50)));
    let orders = machine.due(at(50), 1);
    assert!(orders.len() == 1 && !orders[0].wait, "{orders:?}");
    assert!(!machine.refresh_now(&name(4), at(50)));
}

#[test]
fn who_has_been_due_for_the_longest_is_asked_first_whatever_its_name() {
    let mut machine = peers(3, 5);
    machine.due(at(0), 3);
    for (index, seconds) in [(0, 3_600), (1, 300), (2, 60)] {
        machine.finished(&name(index), fetched(seconds), at(0));
    }
    let mut first = || machine.due(at(4_000), 1).remove(0).trust_domain;
    assert_eq!([first(), first(), first()], [name(2), name(1), name(0)]);
}

#[test]
fn a_peer_that_comes_from_elsewhere_is_asked_at_once_and_one_that_is_gone_never() {
    let mut machine = peers(2, 5);
    machine.due(at(0), 2);
    machine.finished(&name(0), fetched(3_600), at(0));
    machine.finished(&name(1), fetched(3_600), at(0));
    let wanted = BTreeMap::from([(name(0), 1)]);
    assert_eq!(machine.set(&wanted, at(10)), [name(0), name(1)]);
    let orders = machine.due(at(10), 9);
    assert_eq!((orders.len(), orders[0].source), (1, 1));
    machine.finished(&name(1), fetched(60), at(11));
    assert!(!machine.knows(&name(1)));
}
