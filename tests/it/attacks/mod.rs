//! What attackers on the host try against the real node agent.
//!
//! Each attack is a process of the `attacker` program; what it got it says itself. The entry it is after is there in
//! every story, and so is the proof that who earned it gets it.

mod floods;
mod host_cgroups;
mod host_forgers;
mod host_pids;
mod host_setid;
mod host_slow_programs;
mod impostors;
mod namespaces;

use std::{path::Path, process::Command, time::Instant};

use muster_tests::{Cluster, PATIENCE, Process, binary};

/// Rounds of each race.
fn rounds() -> usize {
    usize::try_from(muster_tests::rounds(200)).expect("a number of rounds")
}

/// Starts an attacker.
fn attack(cluster: &Cluster, role: &str, more: &[&str]) -> Process {
    Process::start(&format!("attacker {role}"), &mut command(cluster, role, more))
}

fn command(cluster: &Cluster, role: &str, more: &[&str]) -> Command {
    let mut command = Command::new(binary("attacker"));
    command.arg(role).arg(cluster.workload_socket()).args(more);
    command
}

/// Whether an attacker, with all its children, got an identity. Waits for its end.
fn won(mut attack: Process) -> bool {
    attack.ended();
    attack.said().contains("\"svid\"")
}

/// Has an honest caller ask until it is given at least `bytes`: a new entry takes a moment to reach the agent, and
/// nothing outside tells when it has.
fn earns(cluster: &Cluster, bytes: u64) {
    let patience = Instant::now() + PATIENCE;
    loop {
        let mut honest = attack(cluster, "honest", &[]);
        honest.ended();
        let events = honest.said();
        let got = events
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        if got
            .filter_map(|event| event["bytes"].as_u64())
            .any(|got| got >= bytes)
        {
            return;
        }
        assert!(
            Instant::now() < patience,
            "an honest caller must be served: {events}"
        );
    }
}

/// The program that impostors want to be taken for, as the kernel names it.
fn sleep_program() -> String {
    format!(
        "unix:path:{}",
        std::fs::canonicalize("/bin/sleep").unwrap().display()
    )
}

/// The attackers' own program.
fn attacker_program() -> String {
    format!("unix:path:{}", binary("attacker").display())
}

/// Whether the process runs `program` by now.
fn runs(process: &Process, program: &str) -> bool {
    std::fs::read_link(format!("/proc/{}/exe", process.pid())).is_ok_and(|exe| exe == Path::new(program))
}

/// Whether the process has ended; nobody has waited for it yet.
fn is_over(process: &Process) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.pid())).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_none_or(|(_, rest)| rest.starts_with('Z'))
}
