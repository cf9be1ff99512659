//! A peer that is down, removed, narrowed or revoked.

use std::time::Instant;

use muster_tests::{Cluster, Settings, Web, Workload, until};
use serde_json::Value;

use super::pair::{
    OTHER, SPIFFE_ENDPOINT, believing, follow, pair, peer, register, sees, settings, token, web_endpoint,
};

const ENDPOINT: Settings = Settings {
    server: SPIFFE_ENDPOINT,
    agent: "",
    before: None,
};

#[test]
fn a_revoked_domain_counts_for_nothing_at_every_node_at_once_until_it_is_released() {
    if !Workload::Python.is_here() {
        return;
    }
    let [ours, theirs] = pair(&ENDPOINT, &ENDPOINT);
    follow(&ours, &theirs, "https_spiffe");
    register(&ours, "/web", OTHER);
    register_alone(&theirs, "/db");
    let token = token(&theirs, Workload::Rust, "web");
    let watching = Workload::Python.start(&ours, &["watch-x509"]);
    sees(&watching, &["example.org", OTHER]);
    let valid = |cluster: &Cluster| Workload::Rust.start(cluster, &["validate-jwt", "web", &token]);
    assert_eq!(valid(&ours).event("valid")["id"], "spiffe://other.example/db");

    let ordered = Instant::now();
    ours.muster_ok(&["federation", "revoke", OTHER]);
    sees(&watching, &["example.org"]);
    println!(
        "figure: federation: revoked to workload {} ms",
        ordered.elapsed().as_millis()
    );
    valid(&ours).event("error");
    assert_eq!(peer(&ours, OTHER)["state"], "revoked");
    // Neither their own changes nor a bundle set by hand bring it back.
    let file = ours.path().join("again.json");
    std::fs::write(&file, theirs.muster_ok(&["bundle", "show", "--format", "spiffe"])).unwrap();
    let set = ours.muster(&["bundle", "set", OTHER, &file.display().to_string()]);
    assert!(!set.status.success() && String::from_utf8_lossy(&set.stderr).contains("release"));

    // The endpoint shows an SVID: to begin again they hand over their bundle.
    ours.muster_ok(&["federation", "release", OTHER]);
    ours.muster_ok(&["bundle", "set", OTHER, &file.display().to_string()]);
    sees(&watching, &["example.org", OTHER]);
    valid(&ours).event("valid");
}

#[test]
fn a_peer_that_is_down_takes_nothing_away_and_its_bundle_is_fetched_again_when_it_is_back() {
    if !Workload::Go.is_here() {
        return;
    }
    let [ours, mut theirs] = pair(&ENDPOINT, &ENDPOINT);
    follow(&ours, &theirs, "https_spiffe");
    follow(&theirs, &ours, "https_spiffe");
    register(&ours, "/web", OTHER);
    register(&theirs, "/db", "example.org");
    let serving = Workload::Go.start(&ours, &["serve", "127.0.0.1:0", "spiffe://other.example/db"]);
    let address = serving.event("listening")["addr"].as_str().unwrap().to_owned();

    theirs.take_server().kill();
    let refused = ours.muster(&["federation", "refresh", OTHER]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let state = peer(&ours, OTHER);
    assert_eq!(
        (&state["state"], &state["has_bundle"]),
        (&"failing".into(), &true.into()),
        "{state}"
    );
    // Registrations go on, and workloads on both sides too.
    let mut later = ours.entry("/later", &["unix:uid:4000000"]);
    later.federates_with = vec![OTHER.to_owned()];
    ours.register_entry(later);
    let dialed = Workload::Go
        .start(&theirs, &["dial", &address, "spiffe://example.org/web", "20"])
        .event("dialed");
    assert_eq!(dialed["ok"], 20, "{dialed}");
    let doctor = ours.muster(&["federation", "doctor", OTHER]);
    let told = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(
        !doctor.status.success() && told.contains("WRONG") && told.contains("can be reached"),
        "{told}"
    );

    theirs.start_server();
    // It has another port now.
    let url = format!("https://{}/", theirs.bundle_endpoint());
    ours.muster_ok(&["federation", "update", OTHER, "--url", &url]);
    ours.muster_ok(&["federation", "refresh", OTHER]);
    assert_eq!(peer(&ours, OTHER)["state"], "ok");
}

#[test]
fn the_first_fetch_finds_the_bundle_that_came_with_the_relationship() {
    let ours = Cluster::start_server_only(&ENDPOINT);
    let theirs = Cluster::start_server_of(OTHER, &ENDPOINT);
    // Which of two tasks hears of a change first is a matter of luck.
    for _ in 0..20 {
        follow(&ours, &theirs, "https_spiffe");
        ours.muster_ok(&["federation", "delete", OTHER]);
    }
    let said = ours.server().said();
    assert!(!said.contains("there is no bundle of"), "{said}");
}

#[test]
fn a_relationship_that_ends_takes_its_bundle_from_the_workloads() {
    if !Workload::Go.is_here() {
        return;
    }
    let [ours, theirs] = pair(&ENDPOINT, &ENDPOINT);
    follow(&ours, &theirs, "https_spiffe");
    register(&ours, "/web", OTHER);
    let watching = Workload::Go.start(&ours, &["watch-x509"]);
    sees(&watching, &["example.org", OTHER]);
    let ordered = Instant::now();
    ours.muster_ok(&["federation", "delete", OTHER]);
    sees(&watching, &["example.org"]);
    println!(
        "figure: federation: removed to workload {} ms",
        ordered.elapsed().as_millis()
    );
    let gone = ours.muster(&["federation", "show", OTHER]);
    assert!(
        String::from_utf8_lossy(&gone.stderr).contains("neither a relationship"),
        "{gone:?}"
    );
}

#[test]
fn bundles_set_by_hand_are_kept_apart_and_deleted_in_three_ways() {
    let ours = Cluster::start(&ENDPOINT);
    let theirs = Cluster::start_server_of(OTHER, &ENDPOINT);
    let unknown = ours.muster(&[
        "entry",
        "create",
        "spiffe://example.org/x",
        "--parent",
        ours.node(),
        "--selector",
        "unix:uid:1",
        "--federates-with",
        OTHER,
    ]);
    assert!(
        String::from_utf8_lossy(&unknown.stderr).contains("unable to find federated bundle"),
        "{unknown:?}"
    );
    let file = ours.path().join("theirs.json").display().to_string();
    std::fs::write(&file, theirs.muster_ok(&["bundle", "show", "--format", "spiffe"])).unwrap();
    let own = ours.muster(&["bundle", "set", "example.org", &file]);
    assert!(
        String::from_utf8_lossy(&own.stderr).contains("own trust domain"),
        "{own:?}"
    );
    ours.muster_ok(&["bundle", "set", OTHER, &file]);
    assert_eq!(ours.muster_ok(&["bundle", "count"]).trim(), "2 bundles");
    let entry = register(&ours, "/web", OTHER);

    let restricted = ours.muster(&["bundle", "delete", OTHER]);
    let told = String::from_utf8_lossy(&restricted.stderr).into_owned();
    assert!(
        told.contains("cannot delete bundle; federated with 1 registration entries"),
        "{told}"
    );
    ours.muster_ok(&["bundle", "delete", OTHER, "--mode", "dissociate"]);
    let shown: Value =
        serde_json::from_str(&ours.muster_ok(&["entry", "show", &entry, "--output", "json"])).unwrap();
    assert!(!shown.to_string().contains(OTHER), "{shown}");

    ours.muster_ok(&["bundle", "set", OTHER, &file]);
    register(&ours, "/second", OTHER);
    ours.muster_ok(&["bundle", "delete", OTHER, "--mode", "delete"]);
    assert!(ours.muster_ok(&["entry", "count"]).starts_with("1 "));
}

#[test]
fn a_narrowed_domain_counts_for_its_paths_alone_where_we_verify() {
    let [ours, theirs] = pair(&ENDPOINT, &ENDPOINT);
    follow(&ours, &theirs, "https_spiffe");
    register(&ours, "/web", OTHER);
    register_alone(&theirs, "/db");
    let token = token(&theirs, Workload::Rust, "web");
    let validate = || Workload::Rust.start(&ours, &["validate-jwt", "web", &token]);
    validate().event("valid");
    ours.muster_ok(&["federation", "update", OTHER, "--only", "/payments"]);
    let accepted = || {
        validate().event_where("an answer", |event| {
            event["event"] == "valid" || event["event"] == "error"
        })["event"]
            == "valid"
    };
    until("the narrowing to arrive", || !accepted());
    ours.muster_ok(&["federation", "update", OTHER, "--everything"]);
    until("its end to arrive", accepted);
}

#[test]
fn a_file_may_stand_for_an_endpoint_and_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("theirs.json");
    let theirs = Cluster::start_server_of(OTHER, &ENDPOINT);
    let document = || theirs.muster_ok(&["bundle", "show", "--format", "spiffe"]);
    std::fs::write(&file, document()).unwrap();
    let config = format!(
        "[[federation.peers]]\ntrust_domain = \"{OTHER}\"\nfile = \"{}\"\n",
        file.display()
    );
    let ours = Cluster::start_server_only(&settings(config));
    until("the first bundle", || peer(&ours, OTHER)["has_bundle"] == true);
    let refused = ours.muster(&["federation", "delete", OTHER]);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        told.contains("stands in the configuration, and is changed there"),
        "{told}"
    );
    // Every key is taken back: that is a bundle too.
    let mut taken_back: Value = serde_json::from_str(&document()).unwrap();
    taken_back["keys"] = Value::Array(Vec::new());
    taken_back["spiffe_sequence"] = (taken_back["spiffe_sequence"].as_u64().unwrap() + 1).into();
    std::fs::write(&file, taken_back.to_string()).unwrap();
    until("the empty bundle", || {
        peer(&ours, OTHER)["state"] == "empty bundle"
    });
    // An older one is a replay.
    std::fs::write(&file, document()).unwrap();
    until("the refusal of the older one", || {
        peer(&ours, OTHER)["failure"]
            .as_str()
            .is_some_and(|why| why.contains("older than"))
    });
    assert_eq!(peer(&ours, OTHER)["x509_authorities"], 0);
}

#[test]
fn a_renewed_certificate_of_the_web_is_shown_without_a_restart() {
    let web = Web::new();
    let theirs = Cluster::start_server_of(OTHER, &settings(web_endpoint(&web)));
    let ours = Cluster::start_server_only(&settings(believing(&web)));
    follow(&ours, &theirs, "https_web");
    web.renew();
    theirs.server().line("the new certificate", |line| {
        line.contains("shows the new certificate")
    });
    ours.muster_ok(&["federation", "refresh", OTHER]);
    std::fs::write(web.path("cert.pem"), "no certificate").unwrap();
    theirs.server().line("the refusal of a broken file", |line| {
        line.contains("the old one is shown")
    });
    ours.muster_ok(&["federation", "refresh", OTHER]);
}

fn register_alone(cluster: &Cluster, path: &str) -> String {
    cluster.register(path, &[&format!("unix:uid:{}", nix::unistd::getuid())])
}
