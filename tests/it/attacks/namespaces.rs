//! Callers that made themselves root of a small world.

use muster_tests::{Cluster, Settings};

use super::{attack, attacker_program, earns, won};

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
