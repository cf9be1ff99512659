//! The agent restarts, the server is away: who has an identity keeps it.

use muster_tests::{Cluster, Settings, Workload};

fn uid_selector() -> String {
    format!("unix:uid:{}", nix::unistd::getuid())
}

#[test]
fn a_restarted_agent_serves_what_is_valid_while_the_server_is_away() {
    let mut cluster = Cluster::start(&Settings::default());
    let empty = kept(&cluster, 0);
    cluster.register("/kept", &[&uid_selector()]);
    let before = Workload::Rust.start(&cluster, &["fetch-x509"]).event("x509");
    // A certificate and its key: no less than this.
    kept(&cluster, empty + 500);
    cluster.take_server().kill();
    cluster.take_agent().kill();
    cluster.start_agent();
    let after = Workload::Rust.start(&cluster, &["fetch-x509"]).event("x509");
    assert_eq!(after["svids"][0]["serial"], before["svids"][0]["serial"]);

    cluster.start_server();
    cluster.register("/later", &[&uid_selector()]);
    let watching = Workload::Rust.start(&cluster, &["watch-x509"]);
    watching.event_where("both identities", |event| {
        event["svids"].as_array().is_some_and(|svids| svids.len() == 2)
    });
}

/// Waits until the agent's sealed copy of what it holds is longer than `before`, and says how long it is now. It is
/// written behind: a kill before that would only test the server's absence.
fn kept(cluster: &Cluster, before: u64) -> u64 {
    let file = cluster.path().join("agent/data/svids.sealed");
    let give_up = std::time::Instant::now() + muster_tests::PATIENCE;
    loop {
        match std::fs::metadata(&file) {
            Ok(file) if file.len() > before => return file.len(),
            _ => assert!(std::time::Instant::now() < give_up, "nothing was kept"),
        }
        std::thread::yield_now();
    }
}

#[test]
fn an_entry_that_was_deleted_while_the_agent_was_down_is_not_served_again() {
    let mut cluster = Cluster::start(&Settings::default());
    let entry = cluster.register("/gone", &[&uid_selector()]);
    Workload::Rust.start(&cluster, &["fetch-x509"]).event("x509");
    cluster.take_agent().kill();
    cluster.unregister(&entry);
    cluster.start_agent();
    let watching = Workload::Rust.start(&cluster, &["watch-x509"]);
    assert_eq!(watching.event("error")["code"], "PermissionDenied");
}
