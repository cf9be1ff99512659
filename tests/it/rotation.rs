//! Two workloads talk mTLS while leaves and the authority rotate under them.

use std::collections::BTreeSet;

use muster_tests::{Cluster, Settings, Workload};

/// An authority of 72 s signs from its start, its successor is made after 36 s and signs after 60 s; leaves of 10 s.
const FAST: Settings = Settings {
    server: "[ca]\nlifetime = \"72s\"\nx509_svid = \"10s\"\nmax_x509_svid = \"10s\"\njwt_svid = \"5s\"\nmax_jwt_svid = \"5s\"\nnode = \"10s\"\n",
    agent: "",
};

#[test]
fn handshakes_succeed_through_rotations_of_leaves_and_of_the_authority() {
    if !Workload::Go.is_here() {
        return;
    }
    let cluster = Cluster::start(&FAST);
    cluster.register("/peer", &[&format!("unix:uid:{}", nix::unistd::getuid())]);
    let peer = "spiffe://example.org/peer";
    let server = Workload::Go.start(&cluster, &["serve", "127.0.0.1:0", peer]);
    let address = server.event("listening")["addr"].as_str().unwrap().to_owned();
    let mut client = Workload::Go.start(&cluster, &["dial", &address, peer, "100000000"]);

    let first_authorities: BTreeSet<Vec<u8>> = authorities(&cluster);
    let watching = Workload::Rust.start(&cluster, &["watch-x509"]);
    let mut serials = BTreeSet::new();
    let mut seen_new_authority = false;
    // Until six leaves were replaced and the successor has signed: its leaves end later than the first authority.
    while serials.len() < 7 || !seen_new_authority {
        let update = watching.event("x509");
        serials.insert(update["svids"][0]["serial"].as_str().unwrap().to_owned());
        let now = authorities(&cluster);
        seen_new_authority |= now.difference(&first_authorities).next().is_some() && serials.len() > 10;
    }
    client.close_input();
    let dialed = client.event("dialed");
    println!(
        "figure: {} handshakes, {} failed, through {} leaves and {} authorities",
        dialed["ok"], dialed["failed"], serials.len(), authorities(&cluster).union(&first_authorities).count()
    );
    assert_eq!(dialed["failed"], 0, "{dialed}");
    assert!(dialed["ok"].as_u64().unwrap() > 300, "{dialed}");
}

fn authorities(cluster: &Cluster) -> BTreeSet<Vec<u8>> {
    cluster.bundle().x509_authorities.into_iter().map(|authority| authority.asn1).collect()
}
