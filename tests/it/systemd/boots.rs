//! From the installation to a workload's first identity, and over a boot.

use muster_tests::{Machine, Packages, until};

use super::{ID, as_workload, carry_client, node, possible, served};

#[test]
fn host_systemd_both_units_boot_hardened_and_serve_again_after_a_reboot() {
    if !possible() {
        return;
    }
    let mut machine = node("boots");
    for (unit, most) in [("muster-server", 1.5), ("muster-agent", 2.5)] {
        assert_eq!(machine.property(unit, "ActiveState"), "active");
        let said = machine.sh(&format!("systemd-analyze security --no-pager {unit}"));
        let exposure = said
            .lines()
            .find_map(|line| {
                line.split_once("Overall exposure level for")?
                    .1
                    .split_whitespace()
                    .nth(1)
            })
            .expect("its last line");
        let exposure: f64 = exposure.parse().unwrap();
        println!("figure: systemd-analyze security {unit}: {exposure} of at most {most}");
        assert!(exposure <= most, "{said}");
    }
    // The agent sees who calls, the server nobody: each runs as a user of its own with what it needs and no more.
    let of = |unit, what| {
        let pid = machine.main_pid(unit);
        machine.sh(&format!("sed -n 's/^{what}:\\t//p' /proc/{pid}/status"))
    };
    assert_eq!(of("muster-server", "CapEff").trim(), "0000000000000000");
    assert_eq!(
        of("muster-agent", "CapEff").trim(),
        "0000000000080000",
        "CAP_SYS_PTRACE alone"
    );

    let before = machine.sh("cat /proc/sys/kernel/random/boot_id; muster node list --output json");
    machine.reboot();
    // Nobody starts anything: the units are enabled, the state is on disk, the socket is there before the agent.
    let watcher = machine.start("watcher", &as_workload("watch-x509"));
    served(&watcher);
    let nodes = machine.sh("muster node list --output json");
    let node = nodes
        .split('"')
        .find(|word| word.starts_with("spiffe://"))
        .expect("the node");
    assert!(before.contains(node), "{before} {nodes}");
}

#[test]
fn host_systemd_a_machine_that_is_no_node_waits_for_a_person() {
    if !possible() {
        return;
    }
    let machine = Machine::boot("alone");
    machine.install(&Packages::of_this_build().first());
    carry_client(&machine);
    // Enabled in an image, before the machine has joined: skipped, not failed.
    machine.sh("systemctl enable --now muster-server muster-agent");
    for unit in [
        "muster-server.service",
        "muster-agent.service",
        "muster-agent.socket",
    ] {
        assert_eq!(machine.property(unit, "ConditionResult"), "no", "{unit}");
    }
    machine.start_server();
    // A try to join that was refused makes no node. With a token for another start, which does not say what server it is for, the
    // agent says once what is missing.
    let refused = machine.attempt(
        "echo 00112233445566778899aabbccddeeff | muster-agent join --server localhost:8081 --token-file - \
           --bundle-sha256 $(printf '0%.0s' {1..64})",
    );
    assert!(!refused.well, "{refused:?}");
    let started = machine.attempt("touch /etc/muster/join-token; systemctl start muster-agent.service");
    assert!(!started.well, "{started:?}");
    assert_eq!(machine.property("muster-agent.service", "ExecMainStatus"), "2");
    assert_eq!(machine.property("muster-agent.service", "NRestarts"), "0");
    machine.sh("journalctl --no-pager -u muster-agent | grep 'muster-agent join --server'");
    assert_eq!(mistakes(&machine), 1);
    assert_eq!(machine.property("muster-agent.socket", "ActiveState"), "inactive");
    machine.sh("rm /etc/muster/join-token");
    machine.join();
    machine.register("/workload", super::UID);
    let fetched = machine.sh(&as_workload("fetch-x509"));
    assert!(fetched.contains(ID), "{fetched}");
}

#[test]
fn host_systemd_who_waits_at_the_socket_does_not_start_an_agent_that_only_a_person_can_repair() {
    if !possible() {
        return;
    }
    let machine = node("mistake");
    // The socket alone is left; whoever connects to it starts the agent.
    machine.sh("cp /etc/muster/agent.toml /root/kept
         echo 'no toml' >>/etc/muster/agent.toml
         systemctl stop muster-agent.service");
    assert_eq!(machine.property("muster-agent.socket", "ActiveState"), "active");
    // It asks nothing and waits for an end of its connection: an open one would start the agent for as long as it waits.
    let wait = "exec perl -MIO::Socket::UNIX -e \
        'my $s = IO::Socket::UNIX->new(Peer => \"/run/muster/workload/api.sock\") or exit 3; sysread $s, my $b, 1'";
    let mut caller = machine.start("a caller", wait);
    assert_eq!(caller.ended().code(), Some(0), "{}", caller.said());
    let closed = |starts| {
        until("the socket to be closed", || {
            machine.property("muster-agent.socket", "ActiveState") == "inactive"
        });
        assert_eq!(machine.property("muster-agent.service", "ActiveState"), "failed");
        assert_eq!(machine.property("muster-agent.service", "ExecMainStatus"), "2");
        assert_eq!(mistakes(&machine), starts);
    };
    closed(1);
    // Others are refused at once, and start nothing.
    for _ in 0..3 {
        assert_eq!(machine.start("a late caller", wait).ended().code(), Some(3));
    }
    closed(1);
    // A person who has not repaired it is told so, once for each try.
    assert!(!machine.attempt("systemctl start muster-agent").well);
    closed(2);

    machine.sh("cp /root/kept /etc/muster/agent.toml; systemctl start muster-agent");
    assert_eq!(machine.property("muster-agent.socket", "ActiveState"), "active");
    let fetched = machine.sh(&as_workload("fetch-x509"));
    assert!(fetched.contains(ID), "{fetched}");
    assert_eq!(mistakes(&machine), 2);
}

/// How often the agent ended with the code that says that a person has to act.
fn mistakes(machine: &Machine) -> usize {
    let log = machine.sh("journalctl --sync; journalctl --no-pager --unit muster-agent.service");
    log.lines()
        .filter(|line| line.contains("Main process exited") && line.contains("status=2/"))
        .count()
}
