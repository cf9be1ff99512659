//! Muster as an operator has it: packages on a clean Debian, daemons below a real systemd, callers in the machine.
//!
//! Each story boots a machine of its own. What calls the Workload API there is go-spiffe, unchanged.

mod backup;
mod boots;
mod contents;
mod first_hour;
mod packages;
mod page;
mod reload;
mod restarts;

use std::fs;

use muster_tests::{Machine, Process, Workload};

/// The user whose processes are the workload, and what they get.
const UID: u32 = 1001;
const ID: &str = "spiffe://example.org/workload";
/// Where the client lies in a machine.
const CLIENT: &str = "/usr/local/bin/workload";

fn possible() -> bool {
    Machine::is_possible() && Workload::Go.is_here()
}

/// A machine with server and agent, and the workload registered and served.
fn node(name: &'static str) -> Machine {
    let machine = Machine::with_server_and_agent(name);
    carry_client(&machine);
    machine.register("/workload", UID);
    machine.sh(&as_workload("hammer 1"));
    machine
}

fn carry_client(machine: &Machine) {
    let client = Workload::Go.executable().expect("asked for before");
    fs::copy(client, machine.root().join(CLIENT.trim_start_matches('/'))).unwrap();
}

/// The client's command line, as the workload's user.
fn as_workload(args: &str) -> String {
    format!(
        "SPIFFE_ENDPOINT_SOCKET=unix:///run/muster/workload/api.sock exec setpriv --reuid {UID} --regid {UID} --clear-groups {CLIENT} {args}"
    )
}

/// What `hammer` counted: served, failed, and why.
fn hammered(hammer: &Process) -> (u64, u64, String) {
    let counted = hammer.event("hammered");
    (
        counted["ok"].as_u64().unwrap(),
        counted["failed"].as_u64().unwrap(),
        counted["errors"].to_string(),
    )
}

/// Waits for the next update of a watcher; it must hold the workload's identity.
fn served(watcher: &Process) -> String {
    let update = watcher.event("x509");
    assert_eq!(update["svids"][0]["id"], ID, "{update}");
    update["svids"][0]["serial"].to_string()
}

/// Nothing failed but calls that a stopping agent had begun: `errors` are what `hammer` counted, by text.
fn only_told_to_come_back(errors: &str) {
    let errors: serde_json::Value = serde_json::from_str(errors).unwrap();
    for error in errors.as_object().unwrap().keys() {
        assert!(
            error.contains("Unavailable") && error.contains("the node agent is stopping"),
            "{error}"
        );
    }
}
