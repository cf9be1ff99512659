//! SIGHUP: a daemon reads its configuration again, says what it took over, and goes on whatever it finds.

use std::fs;

use muster_tests::{Cluster, Settings};
use nix::sys::signal::Signal;

#[test]
fn a_server_that_gets_sighup_reloads_and_goes_on() {
    let cluster = Cluster::start_server_only(&Settings::default());
    let file = cluster.path().join("server.toml");
    let config = fs::read_to_string(&file).unwrap();

    fs::write(&file, format!("{config}\n[limits]\nsigning = false\n")).unwrap();
    cluster.server().signal(Signal::SIGHUP);
    cluster
        .server()
        .line("the reload", |line| line.contains("took over limits"));

    fs::write(&file, "trust_domain = 'EXAMPLE'\n").unwrap();
    cluster.server().signal(Signal::SIGHUP);
    cluster
        .server()
        .line("the refusal", |line| line.contains("not reloaded"));
    // It serves as before.
    cluster.muster_ok(&["token", "create"]);
}
