//! A connection that has reached its age is changed for a new one, and nobody notices.

use std::collections::BTreeSet;

use muster_tests::{Cluster, Settings, Workload};

/// The least age that there is. A node's certificate is renewed when its connection is older than that.
const AGING: Settings = Settings {
    server: "[limits]\nconnection_age = \"10s\"\n[ca]\nnode = \"40s\"\n",
    agent: "",
    before: None,
};

#[test]
fn a_node_renews_its_certificate_over_an_aged_connection_and_its_workloads_get_what_they_ask_for_meanwhile() {
    let cluster = Cluster::start(&AGING);
    let selector = format!("unix:uid:{}", nix::unistd::getuid());
    cluster.register("/steady", &[&selector]);
    let watching = Workload::Rust.start(&cluster, &["watch-x509"]);
    watching.event("x509");
    let (mut certificates, mut asked) = (BTreeSet::new(), 0);
    while certificates.len() < 4 {
        asked += 1;
        // A token that is not held: it comes from the server, whatever the connection does meanwhile.
        let jwt = Workload::Rust
            .start(&cluster, &["fetch-jwt", &format!("audience-{asked}")])
            .event_where("an answer", |_| true);
        assert_eq!(jwt["event"], "jwt", "{jwt}");
        certificates.insert(cluster.agents()[0].x509svid_serial_number.clone());
        let said = cluster.agent().said();
        assert!(!said.contains("no connection to the server"), "{said}");
        assert!(!said.contains("was not renewed"), "{said}");
    }
    cluster.register("/later", &[&selector]);
    watching.event_where("both", |event| {
        assert_ne!(event["event"], "error", "{event}");
        event["svids"].as_array().is_some_and(|svids| svids.len() == 2)
    });
    println!(
        "figure: {asked} tokens, {} certificates of a node over aged connections",
        certificates.len()
    );
}
