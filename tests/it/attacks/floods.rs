//! Callers that want to use the agent up. What is asserted is that the others are served, and that it ends.

use std::{
    fs,
    os::unix::process::CommandExt,
    time::{Duration, Instant},
};

use muster_tests::{Cluster, PATIENCE, Process, Settings, need_root};

use super::{attack, command, earns};

/// Connections that one user opens; the agent holds 256 of them.
const FLOOD: &str = "20000";

fn served(cluster: &Cluster) {
    earns(cluster, 1);
}

fn served_in(cluster: &Cluster) -> Duration {
    let began = Instant::now();
    served(cluster);
    began.elapsed()
}

fn cluster() -> Cluster {
    let cluster = Cluster::start(&Settings::default());
    cluster.register("/anybody", &[&format!("unix:uid:{}", nix::unistd::getuid())]);
    served(&cluster);
    cluster
}

fn descriptors(cluster: &Cluster) -> usize {
    fs::read_dir(format!("/proc/{}/fd", cluster.agent().pid()))
        .unwrap()
        .count()
}

fn resident_mib(cluster: &Cluster) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", cluster.agent().pid())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

#[test]
fn floods_of_frames_are_shut_out_and_others_served() {
    let cluster = cluster();
    let before = resident_mib(&cluster);
    for role in [
        "pings",
        "settings",
        "empty-data",
        "windows",
        "unknown",
        "continuations",
        "giant-headers",
        "giant-frame",
        "rapid-reset",
    ] {
        let flood = attack(&cluster, role, &[]);
        served(&cluster);
        flood.event("shut");
        served(&cluster);
    }
    let after = resident_mib(&cluster);
    println!("figure: resident {before} MiB before, {after} MiB after nine floods of frames");
    assert!(after < 128, "{after} MiB");
}

#[test]
fn a_caller_that_says_nothing_is_shut_out() {
    let cluster = cluster();
    attack(&cluster, "silence", &[]).event("closed");
    served(&cluster);
}

#[test]
fn callers_that_never_read_hold_nobody_up() {
    let cluster = cluster();
    let before = resident_mib(&cluster);
    let mut flood = attack(&cluster, "no-reading", &["1000"]);
    flood.event("flooding");
    for round in 0..10 {
        cluster.register(
            &format!("/update-{round}"),
            &[&format!("unix:uid:{}", nix::unistd::getuid())],
        );
        served(&cluster);
    }
    let after = resident_mib(&cluster);
    println!("figure: resident {before} MiB before, {after} MiB with 1,000 streams that nobody reads");
    assert!(after - before.min(after) < 50, "{before} MiB, then {after} MiB");
    flood.close_input();
    flood.ended();
}

#[test]
fn host_one_user_with_twenty_thousand_connections_holds_up_only_itself() {
    if !need_root() {
        return;
    }
    let cluster = cluster();
    let base = descriptors(&cluster);
    let (mut slowest, mut most) = (Duration::ZERO, 0);
    for _ in 0..3 {
        let mut flood = command(&cluster, "connections", &[FLOOD]);
        let mut flood = Process::start("flood", flood.uid(1000));
        slowest = slowest.max(served_in(&cluster));
        flood.event("flooding");
        slowest = slowest.max(served_in(&cluster));
        let held = descriptors(&cluster);
        most = most.max(held);
        assert!(held < base + 256 * 4 + 16, "{held} descriptors");
        flood.close_input();
        flood.ended();
        // Nothing tells when the agent has noticed; it must, or the story times out.
        let patience = Instant::now() + PATIENCE;
        while descriptors(&cluster) > base + 2 {
            assert!(
                Instant::now() < patience,
                "{} descriptors, {base} before",
                descriptors(&cluster)
            );
            std::thread::yield_now();
        }
    }
    println!(
        "figure: beside {FLOOD} connections of one user another was served within {} ms, the start of its process included; {most} descriptors, {base} before",
        slowest.as_millis()
    );
}
