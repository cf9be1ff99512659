//! A pid that changes hands. Root chooses pids.

use std::process::{Child, Command};

use muster_tests::{Cluster, Settings, need_root};
use nix::sys::signal::Signal;

use super::{command, rounds, sleep_program};

#[test]
fn host_a_process_that_takes_over_a_pid_gets_its_caller_nothing() {
    if !need_root() {
        return;
    }
    let cluster = Cluster::start(&Settings::default());
    cluster.register("/sleep", &[&sleep_program()]);
    cluster.register("/root", &["unix:uid:0", &super::attacker_program()]);
    super::earns(&cluster, 1);
    let (mut taken, rounds) = (0, rounds());
    for _ in 0..rounds {
        cluster.agent().signal(Signal::SIGSTOP);
        let mut attacker = command(&cluster, "leave-to-child", &[]);
        let mut attacker = attacker.stdout(std::process::Stdio::piped()).spawn().unwrap();
        let output = attacker.stdout.take().unwrap();
        attacker.wait().unwrap();
        let victim = take_pid(attacker.id());
        cluster.agent().signal(Signal::SIGCONT);
        // Until the child that was left behind has its answer.
        let said = std::io::read_to_string(output).unwrap();
        assert!(!said.contains("\"svid\""), "{said}");
        if let Some(mut victim) = victim {
            taken += 1;
            victim.kill().unwrap();
            victim.wait().unwrap();
        }
    }
    assert!(
        taken > rounds / 2,
        "the pid was taken over {taken} times of {rounds} only"
    );
}

/// Starts a victim that has this very pid, unless others are quicker.
fn take_pid(pid: u32) -> Option<Child> {
    for _ in 0..20 {
        std::fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).unwrap();
        let mut victim = Command::new("/bin/sleep").arg("60").spawn().unwrap();
        if victim.id() == pid {
            return Some(victim);
        }
        victim.kill().unwrap();
        victim.wait().unwrap();
    }
    None
}
