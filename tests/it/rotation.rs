//! Two workloads talk mTLS while leaves and the authority rotate under them.

use std::collections::BTreeSet;

use muster_identity::UnixTime;
use muster_pki::x509::X509Authority;
use muster_tests::{Cluster, Settings, Turn, Workload};

/// An authority of 72 s signs from its start, its successor is made after 36 s and signs after 60 s; leaves of 10 s.
const FAST: Settings = Settings {
    server: "[ca]\nlifetime = \"72s\"\nx509_svid = \"10s\"\nmax_x509_svid = \"10s\"\njwt_svid = \"5s\"\nmax_jwt_svid = \"5s\"\nnode = \"10s\"\n",
    agent: "",
    before: None,
};

#[test]
fn handshakes_succeed_through_rotations_of_leaves_and_of_the_authority() {
    if !Workload::Go.is_here() {
        return;
    }
    // Leaves of 10 s are renewed 5 s before their end: that must not be spent on waiting for other stories' processes.
    let _alone = Turn::alone();
    let cluster = Cluster::start(&FAST);
    cluster.register("/peer", &[&format!("unix:uid:{}", nix::unistd::getuid())]);
    let peer = "spiffe://example.org/peer";
    let server = Workload::Go.start(&cluster, &["serve", "127.0.0.1:0", peer]);
    let address = server.event("listening")["addr"].as_str().unwrap().to_owned();
    let mut client = Workload::Go.start(&cluster, &["dial", &address, peer, "100000000"]);

    let first = authorities(&cluster);
    let first_ends = first
        .iter()
        .map(|authority| authority.validity().not_after)
        .max()
        .unwrap();
    let watching = Workload::Rust.start(&cluster, &["watch-x509"]);
    let mut serials = BTreeSet::new();
    // Until six leaves were replaced and the next authority signs: no leaf outlives its issuer, so one that ends behind the
    // first authority is of the next one.
    let mut latest = UnixTime::EPOCH;
    while serials.len() < 7 || latest <= first_ends {
        let update = watching.event("x509");
        serials.insert(update["svids"][0]["serial"].as_str().unwrap().to_owned());
        latest = UnixTime::from_secs(update["svids"][0]["not_after"].as_i64().unwrap());
    }
    client.close_input();
    let dialed = client.event("dialed");
    println!(
        "figure: {} handshakes, {} failed, through {} leaves and {} authorities",
        dialed["ok"],
        dialed["failed"],
        serials.len(),
        first.len() + authorities(&cluster).len() - 1
    );
    assert_eq!(dialed["failed"], 0, "{dialed}");
    assert!(dialed["ok"].as_u64().unwrap() > 300, "{dialed}");
}

fn authorities(cluster: &Cluster) -> Vec<X509Authority> {
    cluster
        .bundle()
        .x509_authorities
        .iter()
        .map(|held| X509Authority::from_der(&held.asn1).unwrap())
        .collect()
}
