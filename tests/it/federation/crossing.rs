//! Workloads of one trust domain and of another talk to each other.

use std::collections::BTreeSet;

use muster_tests::{Cluster, Settings, Turn, Web, Workload};

use super::pair::{OTHER, SPIFFE_ENDPOINT, believing, follow, pair, register, settings, token, web_endpoint};

#[test]
fn unchanged_clients_of_two_languages_talk_across_two_domains_by_both_profiles() {
    if ![Workload::Go, Workload::Python]
        .into_iter()
        .all(Workload::is_here)
    {
        return;
    }
    let web = Web::new();
    let [ours, theirs] = pair(&settings(believing(&web)), &settings(web_endpoint(&web)));
    // Ours is followed by its SVID, theirs by its certificate of the Web PKI.
    follow(&theirs, &ours, "https_spiffe");
    follow(&ours, &theirs, "https_web");
    register(&ours, "/web", OTHER);
    register(&theirs, "/db", "example.org");
    let (web_id, db_id) = ("spiffe://example.org/web", "spiffe://other.example/db");

    for (server, client) in [(Workload::Go, Workload::Python), (Workload::Python, Workload::Go)] {
        let serving = server.start(&ours, &["serve", "127.0.0.1:0", db_id]);
        let address = serving.event("listening")["addr"].as_str().unwrap().to_owned();
        let dialed = client
            .start(&theirs, &["dial", &address, web_id, "20"])
            .event("dialed");
        assert_eq!(
            (&dialed["ok"], &dialed["failed"]),
            (&20.into(), &0.into()),
            "{client:?}: {dialed}"
        );

        let token = token(&theirs, client, "web");
        let valid = server
            .start(&ours, &["validate-jwt", "web", &token])
            .event("valid");
        assert_eq!(valid["id"], db_id, "{server:?}");
    }
    // An identity that federates with nobody verifies nobody else's.
    let shown = theirs.muster_ok(&["federation", "doctor"]);
    assert!(shown.contains("Nothing is wrong"), "{shown}");
}

/// Authorities of 72 s on both sides, made anew after 36 s and signing after 60 s; leaves of 10 s.
const FAST: &str = "[ca]\nlifetime = \"72s\"\nx509_svid = \"10s\"\nmax_x509_svid = \"10s\"\njwt_svid = \"5s\"\nmax_jwt_svid = \"5s\"\nnode = \"10s\"\n";

#[test]
fn both_sides_rotate_under_traffic_without_a_failed_handshake() {
    if !Workload::Go.is_here() {
        return;
    }
    // Leaves of 10 s are renewed 5 s before their end: that must not be spent on waiting for other stories' processes.
    let _alone = Turn::alone();
    let fast = settings(format!("{FAST}{SPIFFE_ENDPOINT}"));
    let [ours, theirs] = pair(&fast, &fast);
    follow(&theirs, &ours, "https_spiffe");
    follow(&ours, &theirs, "https_spiffe");
    register(&ours, "/web", OTHER);
    register(&theirs, "/db", "example.org");
    let (web_id, db_id) = ("spiffe://example.org/web", "spiffe://other.example/db");
    let serving = Workload::Go.start(&ours, &["serve", "127.0.0.1:0", db_id]);
    let address = serving.event("listening")["addr"].as_str().unwrap().to_owned();
    let mut dialing = Workload::Go.start(&theirs, &["dial", &address, web_id, "100000000"]);

    let before = [&ours, &theirs].map(authorities);
    let watching = [&ours, &theirs].map(|cluster| Workload::Rust.start(cluster, &["watch-x509"]));
    // Until both sides' leaves are of an authority that was not there at the beginning: none outlives its issuer. In a soak, many times.
    let mut before_round = [&ours, &theirs].map(authorities);
    for _ in 0..muster_tests::rounds(1) {
        for (watching, before) in watching.iter().zip(&before_round) {
            // Each event is waited for by itself: the next authority is a minute away.
            while watching.event("x509")["svids"][0]["not_after"]
                .as_i64()
                .is_none_or(|ends| ends <= before.ends)
            {}
        }
        before_round = [&ours, &theirs].map(authorities);
    }
    dialing.close_input();
    let dialed = dialing.event("dialed");
    let after = [&ours, &theirs].map(authorities);
    println!(
        "figure: federation: {} handshakes, {} failed, through {} authorities of both sides",
        dialed["ok"],
        dialed["failed"],
        before
            .iter()
            .chain(&after)
            .flat_map(|held| &held.keys)
            .collect::<BTreeSet<_>>()
            .len()
    );
    assert_eq!(dialed["failed"], 0, "{dialed}");
    assert!(dialed["ok"].as_u64().unwrap() > 300, "{dialed}");
}

struct Authorities {
    keys: BTreeSet<Vec<u8>>,
    ends: i64,
}

fn authorities(cluster: &Cluster) -> Authorities {
    let held = cluster.bundle().x509_authorities;
    let parsed = held
        .iter()
        .map(|held| muster_pki::x509::X509Authority::from_der(&held.asn1).unwrap());
    Authorities {
        ends: parsed
            .map(|authority| authority.validity().not_after.as_secs())
            .max()
            .unwrap(),
        keys: held.into_iter().map(|held| held.asn1.to_vec()).collect(),
    }
}

#[test]
fn a_foreign_administrator_may_do_what_the_configuration_says_and_no_longer_than_his_domain_counts() {
    use muster_proto::spire::server::entry::{CountEntriesRequest, entry_client::EntryClient};
    use muster_tests::{Identity, tcp_channel};

    let admin = "spiffe://other.example/admin";
    let ours = Cluster::start_server_only(&settings(format!("admin_ids = [\"{admin}\"]\n{SPIFFE_ENDPOINT}")));
    let theirs = Cluster::start_server_of(
        OTHER,
        &Settings {
            server: SPIFFE_ENDPOINT,
            ..Settings::default()
        },
    );
    follow(&ours, &theirs, "https_spiffe");
    let [admin, other] =
        [admin, "spiffe://other.example/other"].map(|id| theirs.block_on(Identity::minted(&theirs, id, 600)));
    ours.block_on(async {
        let count = |channel| async move {
            let request = CountEntriesRequest { filter: None };
            EntryClient::new(channel).count_entries(request).await
        };
        let channel = tcp_channel(&ours, Some(&admin)).await;
        count(channel.clone()).await.unwrap();
        let stranger = tcp_channel(&ours, Some(&other)).await;
        assert_eq!(
            count(stranger).await.unwrap_err().code(),
            tonic::Code::PermissionDenied
        );
        // The connection that is open already ends, and no new one is let in.
        ours.muster_ok(&["federation", "revoke", OTHER]);
        for _ in 0..2 {
            assert!(count(channel.clone()).await.is_err());
        }
    });
}
