//! What becomes of a peer, while workloads of both domains talk: it is down, it lies, it is revoked, it goes.

use std::{fs, time::Instant};

use muster_tests::{Cluster, Reply, ScriptedEndpoint, Web, until};
use serde_json::Value;

use super::{domain::Domain, pair::peer, traffic::Traffic, turn_over::nothing_failed};

/// Connections for a look at how it stands.
const SOME: u32 = 5;

/// All fates of `theirs` in turn, whose endpoint shows what `profile` says. The traffic that goes on must not notice the first two.
pub(super) fn all(
    ours: &mut Cluster,
    theirs: &mut dyn Domain,
    profile: &str,
    web: &Web,
    traffic: &mut Traffic,
    what: &str,
) {
    down(ours, theirs, profile, traffic, what);
    lying(ours, theirs, profile, web, traffic, what);
    nothing_failed(&traffic.end(), what);
    revoked(ours, theirs, profile, traffic, what);
    removed(ours, theirs, traffic, what);
}

fn down(ours: &mut Cluster, theirs: &mut dyn Domain, profile: &str, traffic: &Traffic, what: &str) {
    let name = theirs.name();
    theirs.lose_server();
    let asked = Instant::now();
    let refused = ours.refresh(name);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let noticed = asked.elapsed();
    let state = peer(ours, name);
    assert_eq!(
        (&state["state"], &state["has_bundle"]),
        (&"failing".into(), &true.into()),
        "{state}"
    );
    talks(traffic);
    // Neither server is needed for what is held already.
    ours.lose_server();
    talks(traffic);
    ours.regain_server();
    theirs.regain_server();
    let back = Instant::now();
    leads_to(ours, theirs, profile);
    until("their bundle again", || ours.refresh(name).status.success());
    assert_eq!(peer(ours, name)["state"], "ok");
    println!(
        "figure: federation: {what}: a peer that is down is noticed in {} ms, and followed again {} ms after it is back",
        noticed.as_millis(),
        back.elapsed().as_millis()
    );
}

fn lying(ours: &Cluster, theirs: &dyn Domain, profile: &str, web: &Web, traffic: &Traffic, what: &str) {
    let name = theirs.name();
    let document: Value = serde_json::from_str(&theirs.document()).unwrap();
    let held = peer(ours, name);
    let altered = |change: fn(&mut Value)| {
        let mut document = document.clone();
        change(&mut document);
        Reply::Document(document.to_string())
    };
    let endpoint = ScriptedEndpoint::start(
        Some(web.server("127.0.0.1", false, |_| {})),
        Reply::Raw(String::new()),
    );
    let url = endpoint.url();
    ours.muster_ok(&[
        "federation",
        "update",
        name,
        "--url",
        &url,
        "--profile",
        "https_web",
    ]);
    let mut slowest = 0;
    for (lie, reply) in [
        ("nothing", Reply::Raw(String::new())),
        (
            "an older bundle without keys",
            altered(|document| {
                document["keys"] = Value::Array(Vec::new());
                document["spiffe_sequence"] = 0.into();
            }),
        ),
        (
            "a private key",
            altered(|document| {
                document["spiffe_sequence"] = u64::from(u32::MAX).into();
                document["keys"][0]["d"] = "AAAA".into();
            }),
        ),
        (
            "a redirect inward",
            Reply::Redirect(302, "https://169.254.169.254/".into()),
        ),
        (
            "too much",
            Reply::Endless("HTTP/1.1 200 OK\r\ncontent-length: 104857600\r\n\r\n"),
        ),
    ] {
        endpoint.say(reply);
        let asked = Instant::now();
        let refused = ours.refresh(name);
        assert_eq!(refused.status.code(), Some(1), "{lie}: {refused:?}");
        slowest = slowest.max(asked.elapsed().as_millis());
        let now = peer(ours, name);
        for kept in ["sequence", "x509_authorities", "jwt_authorities"] {
            assert_eq!(now[kept], held[kept], "{lie}: {now}");
        }
    }
    talks(traffic);
    leads_to(ours, theirs, profile);
    assert!(ours.refresh(name).status.success());
    println!("figure: federation: {what}: each of five lies is refused within {slowest} ms");
}

fn revoked(ours: &Cluster, theirs: &dyn Domain, profile: &str, traffic: &Traffic, what: &str) {
    let name = theirs.name();
    let token = traffic.token(name);
    assert!(traffic.takes(ours.name(), &token));
    let ordered = Instant::now();
    ours.muster_ok(&["federation", "revoke", name]);
    until_nothing_is_held_of(name, ours, traffic);
    let took = ordered.elapsed();
    is_silent(traffic);
    assert!(!traffic.takes(ours.name(), &token), "a token of a revoked domain");
    assert_eq!(peer(ours, name)["state"], "revoked");

    let released = Instant::now();
    ours.muster_ok(&["federation", "release", name]);
    if profile == "https_spiffe" {
        // None was kept to verify the endpoint by.
        let file = ours.path().join("again.json");
        fs::write(&file, theirs.document()).unwrap();
        ours.muster_ok(&["bundle", "set", name, &file.display().to_string()]);
    }
    traffic
        .serving(ours.name())
        .event_where("their bundle again", |event| {
            event["authorities"][name].is_array()
        });
    println!(
        "figure: federation: {what}: revoked to workload {} ms, released to workload {} ms",
        took.as_millis(),
        released.elapsed().as_millis()
    );
    talks(traffic);
    assert!(traffic.takes(ours.name(), &token));
}

fn removed(ours: &Cluster, theirs: &dyn Domain, traffic: &Traffic, what: &str) {
    let name = theirs.name();
    let token = traffic.token(name);
    let ordered = Instant::now();
    ours.muster_ok(&["federation", "delete", name]);
    until_nothing_is_held_of(name, ours, traffic);
    println!(
        "figure: federation: {what}: removed to workload {} ms",
        ordered.elapsed().as_millis()
    );
    is_silent(traffic);
    assert!(
        !traffic.takes(ours.name(), &token),
        "a token of a domain that is gone"
    );
}

/// The relationship leads to the peer's own endpoint, wherever that is now.
fn leads_to(ours: &Cluster, theirs: &dyn Domain, profile: &str) {
    let (name, url) = (theirs.name(), theirs.endpoint_url());
    let id = format!("spiffe://{name}/spire/server");
    let mut update = vec!["federation", "update", name, "--url", &url, "--profile", profile];
    if profile == "https_spiffe" {
        update.extend(["--endpoint-id", &id]);
    }
    ours.muster_ok(&update);
}

fn until_nothing_is_held_of(name: &str, ours: &Cluster, traffic: &Traffic) {
    traffic
        .serving(ours.name())
        .event_where("nothing of the peer", |event| {
            event["event"] == "held" && event["authorities"].get(name).is_none()
        });
}

/// Both talk to each other, with tokens.
fn talks(traffic: &Traffic) {
    for dialed in traffic.try_both_ways(SOME) {
        assert_eq!(dialed.failed, 0, "{}", dialed.errors);
    }
}

/// Neither is let in by the other, or lets itself be led there.
fn is_silent(traffic: &Traffic) {
    for dialed in traffic.try_both_ways(SOME) {
        assert_eq!(dialed.ok, 0, "{dialed:?}");
    }
}
