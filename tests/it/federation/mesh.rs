//! Ten trust domains, each federating with each.

use std::time::Instant;

use muster_tests::{Cluster, Settings, Workload};

use super::{
    domain::{Domain as _, Kind},
    pair::{SPIFFE_ENDPOINT, follow},
};

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
                follow(follower, *followed, "https_spiffe");
            }
        }
    }
    println!(
        "figure: federation: 90 relationships made in {} ms",
        meshing.elapsed().as_millis()
    );
    let selector = format!("unix:uid:{}", nix::unistd::getuid());
    let mut entry = ours.entry("/web", &[&selector]);
    entry.federates_with = NAMES.map(str::to_owned).to_vec();
    ours.register_entry(entry);
    let watching = Workload::Rust.start(&ours, &["watch-x509"]);
    watching.event("x509");

    // Each peer's X.509 authority turns over once. Nobody waits for anybody here: what is measured is how soon the workload knows.
    let spent = || -> u128 {
        let servers = all.iter().map(|cluster| cluster.server());
        servers.map(|server| server.processor_time().as_millis()).sum()
    };
    let (before, mut published, mut revoked) = (spent(), Vec::new(), Vec::new());
    for peer in &others {
        let holds = |authorities: u64| {
            let what = format!("{authorities} authorities of {}", peer.name());
            watching.event_where(&what, |event| {
                let mut bundles = event["bundles"].as_array().into_iter().flatten();
                bundles.any(|bundle| {
                    bundle["trust_domain"] == peer.name() && bundle["authorities"] == authorities
                })
            });
        };
        let old = peer.signing(Kind::X509);
        let began = Instant::now();
        let new = peer.prepare(Kind::X509);
        holds(2);
        published.push(began.elapsed());
        peer.activate(Kind::X509, &new);
        peer.taint(Kind::X509, &old);
        let began = Instant::now();
        peer.revoke(Kind::X509, &old);
        holds(1);
        revoked.push(began.elapsed());
    }
    for (what, mut times) in [("new authority", published), ("revoked authority", revoked)] {
        times.sort_unstable();
        println!(
            "figure: federation: of ten in a mesh, a peer's {what} to a workload: median of {} {} ms, slowest {} ms",
            times.len(),
            times[times.len() / 2].as_millis(),
            times[times.len() - 1].as_millis()
        );
    }
    let memory: u64 = all.iter().map(|cluster| cluster.server().resident_mib()).sum();
    println!(
        "figure: federation: ten servers in a mesh: {memory} MiB, {} ms of processor time for {} turns of an authority, {} ms since their starts",
        spent() - before,
        others.len(),
        spent()
    );
}
