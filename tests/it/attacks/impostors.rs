//! Processes that want to be taken for another one on their own connection.

use std::time::{Duration, Instant};

use muster_tests::{Cluster, Settings};
use nix::sys::signal::Signal;

use super::{attack, attacker_program, earns, is_over, rounds, runs, sleep_program, won};

/// Attackers side by side while the agent is held.
const ABREAST: usize = 10;

#[test]
fn an_attacker_that_does_not_cheat_gets_what_its_program_earned() {
    let cluster = Cluster::start(&Settings::default());
    cluster.register("/attacker", &[&attacker_program()]);
    earns(&cluster, 1);
}

#[test]
fn a_program_that_an_attacker_becomes_gets_it_nothing() {
    let cluster = Cluster::start(&Settings::default());
    cluster.register("/sleep", &[&sleep_program()]);
    let sleep = sleep_program().strip_prefix("unix:path:").unwrap().to_owned();
    for role in ["exec-silent", "exec-child-answers", "exec-prepared"] {
        for round in 0..rounds() / ABREAST {
            // In every other round the agent looks only when all have become what they want to pass for.
            let held = round % 2 == 0;
            if held {
                cluster.agent().signal(Signal::SIGSTOP);
            }
            let attacks: Vec<_> = (0..ABREAST).map(|_| attack(&cluster, role, &[])).collect();
            if held {
                // There is nothing to watch an exec by.
                while !attacks
                    .iter()
                    .all(|attack| runs(attack, &sleep) || is_over(attack))
                {
                    std::thread::yield_now();
                }
                cluster.agent().signal(Signal::SIGCONT);
            }
            assert!(!attacks.into_iter().any(won), "{role} won in round {round}");
        }
    }
}

#[test]
fn a_connection_serves_nobody_but_the_process_that_made_it() {
    let cluster = Cluster::start(&Settings::default());
    cluster.register("/connector", &[&format!("unix:uid:{}", nix::unistd::getuid())]);
    earns(&cluster, 1);
    for role in ["pass-connection", "child-sends", "send-descriptor"] {
        for _ in 0..rounds() / ABREAST {
            let attacks: Vec<_> = (0..ABREAST).map(|_| attack(&cluster, role, &[])).collect();
            assert!(!attacks.into_iter().any(won), "{role} won");
        }
    }
    assert!(
        won(attack(&cluster, "honest", &[])),
        "an honest client is served all the while"
    );
}

#[test]
fn a_program_that_was_swapped_on_a_live_stream_gets_no_update() {
    let cluster = Cluster::start(&Settings::default());
    cluster.register("/first", &[&attacker_program()]);
    earns(&cluster, 1);
    let swapped = attack(&cluster, "exec-after-svid", &[]);
    swapped.event("svid");
    let cat = std::fs::canonicalize("/bin/cat").unwrap();
    while !runs(&swapped, cat.to_str().unwrap()) {
        std::thread::yield_now();
    }
    cluster.register("/second", &[&attacker_program()]);
    // An honest one that is told of the second identity shows that the agent has it, and has sent what it sends.
    earns(&cluster, 2_000);
    assert!(!swapped.said().contains("/second"));
}

#[test]
fn a_stream_ends_when_its_caller_becomes_another_program_though_nothing_is_to_be_sent() {
    let cluster = Cluster::start(&Settings::default());
    cluster.register("/first", &[&attacker_program()]);
    earns(&cluster, 1);
    // Another file with the same content: a program that answers just as well.
    let other = cluster.path().join("other");
    std::fs::copy(muster_tests::binary("attacker"), &other).unwrap();
    let other = other.to_str().unwrap();
    let mut longest = Duration::ZERO;
    for _ in 0..rounds() / 20 {
        let swapped: Vec<_> = (0..ABREAST)
            .map(|_| attack(&cluster, "exec-and-listen", &[other]))
            .collect();
        for mut swapped in swapped {
            swapped.event("listening");
            let since = Instant::now();
            let end = swapped.event_where("what comes", |_| true);
            longest = longest.max(since.elapsed());
            assert_eq!(end["event"], "closed", "it is given nothing: {end}");
            swapped.ended();
        }
    }
    println!("figure: a caller becomes another program: its stream ends after {longest:.1?} at the latest");
}
