//! Daemons that end, in good order or not: systemd brings them back, and callers hardly notice.

use std::path::Path;

use super::{as_workload, hammered, node, only_told_to_come_back, possible, served};
use muster_tests::{Machine, until};

/// Fetches of one new connection each, beside what a story does to the daemons.
const FETCHES: u32 = 1500;

#[test]
fn host_systemd_no_connect_fails_while_the_agent_restarts() {
    if !possible() {
        return;
    }
    let machine = node("restarts");
    let watcher = machine.start("watcher", &as_workload("watch-x509"));
    served(&watcher);
    let hammer = machine.start("hammer", &as_workload(&format!("hammer {FETCHES}")));
    let mut restarts = 0_u64;
    // As long as the callers call, at least thrice.
    while restarts < 3 || !hammer.said().contains("hammered") {
        let before = machine.main_pid("muster-agent");
        machine.sh("systemctl restart muster-agent");
        assert_ne!(machine.main_pid("muster-agent"), before);
        restarts += 1;
    }
    let (ok, failed, errors) = hammered(&hammer);
    println!(
        "figure: {ok} fetches answered over {restarts} restarts of the agent, {failed} told to come back"
    );
    // Every connect was taken. What the old agent had begun and could not end, it said so: at most the one call that this
    // caller had under way.
    assert_eq!(ok + failed, u64::from(FETCHES));
    assert!(failed <= restarts, "{errors}");
    only_told_to_come_back(&errors);
    // The one who kept a stream was told again, of the same identity, and never of none.
    served(&watcher);
    for word in ["ECONNREFUSED", "connection refused", "no such file"] {
        assert!(!watcher.said().contains(word), "{}", watcher.said());
    }
}

#[test]
fn host_systemd_daemons_that_are_killed_come_back() {
    if !possible() {
        return;
    }
    let machine = node("killed");
    let watcher = machine.start("watcher", &as_workload("watch-x509"));
    served(&watcher);
    // No caller finds it closed meanwhile: it is still the one that was opened at the start.
    let socket = || machine.property("muster-agent.socket", "InvocationID");
    let opened = socket();
    for unit in ["muster-agent", "muster-server"] {
        for round in 1..=3 {
            let before = machine.main_pid(unit);
            machine.sh(&format!("kill -9 {before}"));
            came_back(&machine, unit, before);
            assert_eq!(machine.property(unit, "NRestarts"), round.to_string(), "{unit}");
        }
    }
    assert_eq!(socket(), opened, "the socket was opened anew");
    // The workload's library came back by itself, to the same identity.
    served(&watcher);
    // And the server is whole: it knows its node and its entries, and a new one reaches the agent.
    machine.register("/late", 1002);
    let late = as_workload("fetch-x509").replace("1001", "1002");
    until("the new entry", || machine.attempt(&late).out.contains("/late"));
}

#[test]
fn host_systemd_daemons_that_hang_are_started_anew() {
    if !possible() {
        return;
    }
    let machine = node("hangs");
    for unit in ["muster-agent", "muster-server"] {
        assert_eq!(machine.property(unit, "WatchdogUSec"), "30s", "{unit}");
        // A shorter patience, by a drop-in as an operator would: waiting for the real one would show nothing more.
        let folder = machine
            .root()
            .join(format!("etc/systemd/system/{unit}.service.d"));
        watch_closely(&folder);
    }
    machine.sh("systemctl daemon-reload && systemctl restart muster-server muster-agent");
    for unit in ["muster-agent", "muster-server"] {
        let before = machine.main_pid(unit);
        machine.sh(&format!("kill -STOP {before}"));
        came_back(&machine, unit, before);
        machine.sh(&format!(
            "journalctl --no-pager -u {unit} | grep 'Watchdog timeout'"
        ));
    }
    machine.sh(&as_workload("hammer 1"));
}

fn watch_closely(folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("watch.conf"), "[Service]\nWatchdogSec=3s\n").unwrap();
}

fn came_back(machine: &Machine, unit: &str, before: u32) {
    until("another process", || {
        let now = machine.property(unit, "MainPID");
        machine.property(unit, "ActiveState") == "active" && now != "0" && now != before.to_string()
    });
}
