//! Unchanged clients of four languages get what they earned, follow it and lose it.

use muster_tests::{Cluster, Settings, Workload};

/// Leaves that live a quarter of a minute: rotation within a test's patience.
const SHORT_LEAVES: Settings = Settings {
    server: "[ca]\nx509_svid = \"16s\"\n",
    agent: "",
    before: None,
};

fn uid_selector() -> String {
    format!("unix:uid:{}", nix::unistd::getuid())
}

#[test]
fn unchanged_clients_get_the_svid_of_what_they_are() {
    let cluster = Cluster::start(&Settings::default());
    cluster.register("/by-uid", &[&uid_selector()]);
    for client in Workload::ALL.into_iter().filter(|client| client.is_here()) {
        let x509 = client.start(&cluster, &["fetch-x509"]).event("x509");
        assert_eq!(
            x509["svids"][0]["id"], "spiffe://example.org/by-uid",
            "{client:?}"
        );
        assert_eq!(x509["bundles"][0]["trust_domain"], "example.org", "{client:?}");

        let jwt = client.start(&cluster, &["fetch-jwt", "db"]).event("jwt");
        assert_eq!(jwt["svids"][0]["id"], "spiffe://example.org/by-uid", "{client:?}");
        let token = jwt["svids"][0]["token"].as_str().unwrap();
        let valid = client
            .start(&cluster, &["validate-jwt", "db", token])
            .event("valid");
        assert_eq!(valid["id"], "spiffe://example.org/by-uid", "{client:?}");
        let refused = client
            .start(&cluster, &["validate-jwt", "other", token])
            .event("error");
        assert!(
            ["InvalidArgument", "Unknown"].contains(&refused["code"].as_str().unwrap()),
            "{client:?}: {refused}"
        );

        client.start(&cluster, &["fetch-bundles"]).event("bundles");
        client
            .start(&cluster, &["fetch-jwt-bundles"])
            .event("jwt-bundles");
    }
}

#[test]
fn clients_without_an_entry_are_told_that_they_have_no_identity() {
    let cluster = Cluster::start(&Settings::default());
    cluster.register("/somebody-else", &["unix:uid:4000000"]);
    for client in Workload::ALL.into_iter().filter(|client| client.is_here()) {
        let refused = client.start(&cluster, &["fetch-x509"]).event("error");
        assert_eq!(refused["code"], "PermissionDenied", "{client:?}: {refused}");
    }
}

#[test]
fn unchanged_clients_follow_rotation() {
    let cluster = Cluster::start(&SHORT_LEAVES);
    cluster.register("/rotating", &[&uid_selector()]);
    for client in Workload::ALL.into_iter().filter(|client| client.is_here()) {
        let watching = client.start(&cluster, &["watch-x509"]);
        let mut serials = vec![];
        while serials.len() < 3 {
            let update = watching.event("x509");
            let serial = update["svids"][0]["serial"].as_str().unwrap().to_owned();
            if !serials.contains(&serial) {
                serials.push(serial);
            }
        }
    }
}

#[test]
fn an_entry_reaches_an_open_stream_and_its_end_ends_the_stream() {
    let cluster = Cluster::start(&Settings::default());
    let first = cluster.register("/first", &[&uid_selector()]);
    for client in [Workload::Go, Workload::Rust, Workload::Java]
        .into_iter()
        .filter(|client| client.is_here())
    {
        let watching = client.start(&cluster, &["watch-x509"]);
        watching.event("x509");
        let second = cluster.register("/second", &[&uid_selector()]);
        watching.event_where("both identities", |event| {
            event["svids"].as_array().is_some_and(|svids| svids.len() == 2)
        });
        cluster.unregister(&second);
        watching.event_where("the first identity alone", |event| {
            event["svids"].as_array().is_some_and(|svids| svids.len() == 1)
        });
    }
    let watching = Workload::Rust.start(&cluster, &["watch-x509"]);
    watching.event("x509");
    cluster.unregister(&first);
    assert_eq!(watching.event("error")["code"], "PermissionDenied");
}

#[test]
fn thousands_of_new_connections_of_each_client_meet_no_false_refusal() {
    let cluster = Cluster::start(&Settings::default());
    cluster.register("/frequent", &[&uid_selector()]);
    for client in Workload::ALL.into_iter().filter(|client| client.is_here()) {
        let rounds = muster_tests::rounds(5_000);
        // java-spiffe takes a tenth of a second to close a client.
        let rounds = if client == Workload::Java {
            rounds / 20
        } else {
            rounds
        }
        .to_string();
        let hammered = client.start(&cluster, &["hammer", &rounds]).event("hammered");
        println!(
            "figure: {client:?}: {} new connections, {} refused",
            hammered["ok"], hammered["failed"]
        );
        assert_eq!(hammered["failed"], 0, "{client:?}: {hammered}");
    }
}
