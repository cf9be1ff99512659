//! Callers that made themselves root of a small world.

use std::os::unix::process::CommandExt as _;

use muster_tests::{Cluster, Process, Settings, need_programs, need_root};

use super::{attack, attacker_program, command, earns, won};

#[test]
fn a_caller_in_a_user_namespace_of_its_own_has_no_executable() {
    let cluster = Cluster::start(&Settings::default());
    cluster.register("/by-path", &[&attacker_program()]);
    earns(&cluster, 1);
    assert!(!won(attack(&cluster, "own-user-namespace", &[])));
}

#[test]
fn a_caller_in_a_user_namespace_of_its_own_keeps_the_uid_that_the_host_sees() {
    let cluster = Cluster::start(&Settings::default());
    // Inside it is nobody, since it mapped no one.
    cluster.register("/by-uid", &[&format!("unix:uid:{}", nix::unistd::getuid())]);
    earns(&cluster, 1);
    assert!(won(attack(&cluster, "own-user-namespace", &[])));
}

#[test]
fn host_a_caller_whose_uid_has_no_number_in_the_agents_world_is_refused() {
    if !need_root() || !need_programs(&["unshare"]) {
        return;
    }
    let mut cluster = Cluster::start(&Settings::default());
    // Whoever has no number shares this one with all who have none.
    cluster.register("/overflow", &["unix:uid:65534"]);
    cluster.register("/root", &["unix:uid:0"]);
    earns(&cluster, 1);
    cluster.take_agent().stop();
    cluster.start_agent_in(&["unshare", "--user", "--map-root-user"]);
    let unmapped = Process::start("unmapped", command(&cluster, "honest", &[]).uid(1000).gid(1000));
    assert!(!won(unmapped));
    cluster.agent().line("its reason", |line| {
        line.contains("refused") && line.contains("stands for users without a number here")
    });
}

#[test]
fn host_a_caller_outside_the_agents_pid_namespace_is_refused_with_the_reason() {
    if !need_root() || !need_programs(&["unshare"]) {
        return;
    }
    let mut cluster = Cluster::start(&Settings::default());
    cluster.register("/root", &["unix:uid:0"]);
    earns(&cluster, 1);
    cluster.take_agent().stop();
    cluster.start_agent_in(&["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    assert!(!won(attack(&cluster, "honest", &[])));
    cluster.agent().line("its reason", |line| {
        line.contains("the caller stands outside our PID namespace")
    });
}
