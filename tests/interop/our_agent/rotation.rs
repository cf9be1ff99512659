//! SVIDs of workloads and of the node itself, at lifetimes of seconds.

use std::collections::BTreeSet;

use muster_tests::{SpireSettings, spire_is_here, until};

use super::{Joined, paths, serial};

#[test]
fn our_agent_renews_what_a_spire_server_signs_for_seconds() {
    if !spire_is_here() {
        return;
    }
    let settings = SpireSettings {
        server: "default_x509_svid_ttl = \"20s\"\n  agent_ttl = \"20s\"",
        ..SpireSettings::default()
    };
    let joined = Joined::start(&settings, "");
    joined.register("/rotating", &[]);
    let watching = joined
        .agent
        .watching("the identity", |paths| paths == ["/rotating"]);
    let mut serials = BTreeSet::new();
    let mut certificates = BTreeSet::new();
    // Three of each: so the second certificate of the node was used for more than its renewal.
    until("renewals", || {
        let event = watching.event_where("the identity", |event| {
            assert_ne!(event["event"], "error", "{event}");
            paths(event) == ["/rotating"]
        });
        serials.insert(serial(&event, "/rotating"));
        certificates.insert(joined.shown("Serial number").expect("the node is there"));
        serials.len() >= 3 && certificates.len() >= 3
    });
    assert!(
        !joined
            .agent
            .process()
            .said()
            .contains("no connection to the server")
    );
}
