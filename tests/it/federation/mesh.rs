//! Ten trust domains, each federating with each.

use std::{sync::Arc, time::Instant};

use muster_identity::{Lifetime, UnixTime};
use muster_pki::{
    KeyAlgorithm, LocalKey,
    x509::{RootProfile, ca_subject, issue_root},
};
use muster_proto::spire::{
    server::bundle::{AppendBundleRequest, bundle_client::BundleClient},
    types::X509Certificate,
};
use muster_tests::{Cluster, Settings, Workload};

use super::pair::{SPIFFE_ENDPOINT, follow, register};

const ENDPOINT: Settings = Settings {
    server: SPIFFE_ENDPOINT,
    agent: "",
    before: None,
};

const NAMES: [&str; 9] = [
    "b.example",
    "c.example",
    "d.example",
    "e.example",
    "f.example",
    "g.example",
    "h.example",
    "i.example",
    "j.example",
];

#[test]
fn ten_domains_in_a_mesh_hear_of_each_others_authorities_at_once() {
    // One with a node and a workload that federates with all the others.
    let ours = Cluster::start(&ENDPOINT);
    let others: Vec<Cluster> = NAMES
        .into_iter()
        .map(|name| Cluster::start_server_of(name, &ENDPOINT))
        .collect();
    let all: Vec<&Cluster> = std::iter::once(&ours).chain(&others).collect();
    let meshing = Instant::now();
    for follower in &all {
        for followed in &all {
            if follower.trust_domain() != followed.trust_domain() {
                follow(follower, followed, "https_spiffe");
            }
        }
    }
    println!(
        "figure: federation: 90 relationships made in {} ms",
        meshing.elapsed().as_millis()
    );
    register(&ours, "/web", NAMES[0]);
    let watching = Workload::Rust.start(&ours, &["watch-x509"]);
    watching.event("x509");

    let mut slowest = 0;
    for round in 0..5 {
        let began = Instant::now();
        append(&others[0]);
        watching.event_where("the new authority", |event| {
            let bundles = event["bundles"].as_array();
            bundles.is_some_and(|bundles| {
                bundles.iter().any(|bundle| {
                    bundle["trust_domain"] == NAMES[0]
                        && bundle["authorities"]
                            .as_u64()
                            .is_some_and(|count| count == round + 2)
                })
            })
        });
        slowest = slowest.max(began.elapsed().as_millis());
    }
    println!(
        "figure: federation: of ten in a mesh, new authority to a foreign workload: slowest of 5 {slowest} ms"
    );
    let servers = all.iter().map(|cluster| cluster.server());
    let memory: u64 = servers.clone().map(|server| server.resident_mib()).sum();
    let spent: u128 = servers.map(|server| server.processor_time().as_millis()).sum();
    println!(
        "figure: federation: ten servers in a mesh: {memory} MiB, {spent} ms of processor time since their starts"
    );
}

/// A new authority in a server's bundle, as its rotation would make one.
fn append(cluster: &Cluster) {
    let profile = RootProfile {
        trust_domain: cluster.trust_domain().parse().unwrap(),
        subject: ca_subject(),
        now: UnixTime::from_secs(1_795_000_000),
        lifetime: Lifetime::from_secs(10 * 365 * 24 * 3_600).unwrap(),
    };
    let root = issue_root(
        Arc::new(LocalKey::generate(KeyAlgorithm::EcP256).unwrap()),
        &profile,
    )
    .unwrap();
    let request = AppendBundleRequest {
        x509_authorities: vec![X509Certificate {
            asn1: root.authority().der().to_vec(),
            tainted: false,
        }],
        ..AppendBundleRequest::default()
    };
    cluster.block_on(async {
        BundleClient::new(cluster.channel().await)
            .append_bundle(request)
            .await
            .unwrap();
    });
}
