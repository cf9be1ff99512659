//! Operators take authorities through their lives by command: nobody's traffic suffers, and what was revoked counts nowhere.

mod traffic;

use muster_proto::node::{self, node_client::NodeClient, sync_request};
use muster_tests::{Cluster, Identity, Settings, Workload, tcp_channel, until};
use serde_json::Value;

use crate::audit::{recorded, records};

/// What `muster authority …` says as JSON; it must succeed.
fn authority(cluster: &Cluster, args: &[&str]) -> Value {
    let words: Vec<&str> = [&["--output", "json", "authority"], args].concat();
    serde_json::from_str(&cluster.muster_ok(&words)).unwrap()
}

fn active(cluster: &Cluster, kind: &str) -> String {
    let shown = authority(cluster, &["show", kind]);
    shown[kind]["active"]["authority_id"].as_str().unwrap().to_owned()
}

fn registered_for_us(cluster: &Cluster) {
    cluster.register("/peer", &[&format!("unix:uid:{}", nix::unistd::getuid())]);
}

#[test]
fn tokens_go_by_their_key_through_taint_and_revocation() {
    if !Workload::Go.is_here() {
        return;
    }
    let cluster = Cluster::start(&Settings::default());
    registered_for_us(&cluster);
    let token = || {
        let fetched = Workload::Go
            .start(&cluster, &["fetch-jwt", "audience"])
            .event("jwt");
        fetched["svids"][0]["token"].as_str().unwrap().to_owned()
    };
    let is_valid = |token: &str| {
        let mut client = Workload::Go.start(&cluster, &["validate-jwt", "audience", token]);
        client.ended().success()
    };
    let old = active(&cluster, "jwt");
    let before = token();
    assert_eq!(token(), before, "it is kept and handed out again");
    authority(&cluster, &["prepare", "jwt"]);
    authority(&cluster, &["activate", "jwt"]);
    assert!(is_valid(&before) && token() == before);
    authority(&cluster, &["taint", "jwt", &old]);
    // The bundle is on its way: at the node what a tainted key signed is handed out no more.
    let mut after = before.clone();
    until("a token of the new key", || {
        after = token();
        after != before
    });
    assert!(
        is_valid(&before) && is_valid(&after),
        "a tainted key is trusted still"
    );
    authority(&cluster, &["revoke", "jwt", &old]);
    until("the old token to be refused", || !is_valid(&before));
    assert!(is_valid(&after) && token() == after);
}

#[test]
fn connections_below_a_revoked_authority_end_and_there_are_no_new_ones() {
    let cluster = Cluster::start_server_only(&Settings::default());
    let (node, mut stream) = cluster.block_on(async {
        let node = Identity::joined(&cluster).await;
        let mut client = NodeClient::new(tcp_channel(&cluster, Some(&node)).await);
        let hello = node::Hello {
            wire_version: node::WIRE_VERSION,
            ..Default::default()
        };
        let hello = node::SyncRequest {
            message: Some(sync_request::Message::Hello(hello)),
        };
        // It never says that it holds anything: authorities wait ten seconds for it.
        let requests = tokio_stream::StreamExt::chain(tokio_stream::iter([hello]), tokio_stream::pending());
        let stream = client.sync(requests).await.unwrap().into_inner();
        (node, stream)
    });
    let old = active(&cluster, "x509");
    authority(&cluster, &["prepare", "x509"]);
    authority(&cluster, &["activate", "x509"]);
    authority(&cluster, &["taint", "x509", &old]);
    authority(&cluster, &["revoke", "x509", &old]);
    cluster.block_on(async {
        let end = async { while let Ok(Some(_)) = stream.message().await {} };
        tokio::time::timeout(muster_tests::PATIENCE, end)
            .await
            .expect("the stream of a node whose authority was revoked ends");
    });
    let said = cluster
        .server()
        .line("why it ended", |line| line.contains("trusted no more"));
    assert!(said.contains("connection ended"), "{said}");
    // The server itself is known by its new certificate; the old one of the node opens nothing.
    cluster.block_on(async {
        let mut client = NodeClient::new(tcp_channel(&cluster, Some(&node)).await);
        let refused = client.sync(tokio_stream::pending()).await;
        assert!(refused.is_err(), "let in below a revoked authority");
    });
}

#[test]
fn a_node_that_was_away_while_its_authority_was_revoked_comes_back_by_itself() {
    let mut cluster = Cluster::start(&Settings::default());
    registered_for_us(&cluster);
    cluster.muster_ok(&["fetch", "x509"]);
    let old = active(&cluster, "x509");
    authority(&cluster, &["prepare", "x509"]);
    // Returns when the node holds the new authority; its own certificate is of the old one still.
    authority(&cluster, &["activate", "x509"]);
    cluster.take_agent().kill();
    authority(&cluster, &["taint", "x509", &old]);
    authority(&cluster, &["revoke", "x509", &old]);
    cluster.start_agent();
    cluster.agent().line("its way back", |line| {
        line.contains("the server has taken this node back")
    });
    let fetched = cluster.path().join("fetched");
    let bundle = |folder: &std::path::Path| format!("example.org={}", folder.join("bundle.0.pem").display());
    until("an SVID of the new authority", || {
        cluster.muster_ok(&["fetch", "x509", "--write", fetched.to_str().unwrap()]);
        let chain = fetched.join("svid.0.pem");
        let server_bundle = cluster.muster_ok(&["bundle", "show", "--format", "pem"]);
        std::fs::write(fetched.join("bundle.0.pem"), server_bundle).unwrap();
        let arguments = [
            "validate",
            "x509",
            chain.to_str().unwrap(),
            "--bundle",
            &bundle(&fetched),
        ];
        cluster.muster(&arguments).status.success()
    });
}

#[test]
fn a_set_of_servers_is_rotated_together_also_one_elsewhere() {
    let near = Cluster::start_server_only(&Settings::default());
    let far = Cluster::start(&Settings::default());
    let mut operator = far.entry("/operator", &[&format!("unix:uid:{}", nix::unistd::getuid())]);
    operator.admin = true;
    far.register_entry(operator);
    far.muster_ok(&["fetch", "x509"]);
    let signing = || [&near, &far].map(|cluster| ["x509", "jwt"].map(|kind| active(cluster, kind)));
    let before = signing();
    let near_socket = near.server_socket();
    let servers = [
        "--server",
        near_socket.to_str().unwrap(),
        "--server",
        far.server_address(),
    ];
    let rotated = authority(&far, &[&["rotate", "--revoke", "--now"], &servers[..]].concat());
    let turns = rotated["turns"].as_array().unwrap();
    assert!(
        turns.len() == 4 && turns.iter().all(|turn| turn["reached"] == "revoked"),
        "{rotated}"
    );
    let after = signing();
    for (was, is) in before.iter().flatten().zip(after.iter().flatten()) {
        assert_ne!(was, is);
    }
    // Nobody waited for the node, so its connection was cut; it is back by itself.
    until("SVIDs and tokens from the node", || {
        let jwt = ["fetch", "jwt", "--audience", "somebody"];
        far.muster(&["fetch", "x509"]).status.success() && far.muster(&jwt).status.success()
    });
}

#[test]
fn what_may_not_be_commanded_is_refused_and_on_record() {
    let mut cluster = Cluster::start_server_only(&Settings::default());
    for kind in ["x509", "jwt"] {
        let signs = active(&cluster, kind);
        let refused = |args: &[&str], why: &str| {
            let output = cluster.muster(&[&["authority"], args].concat());
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
            assert!(said.contains(why), "{args:?}: {said}");
        };
        refused(
            &["taint", kind, &signs],
            "unable to taint current local authority",
        );
        refused(
            &["revoke", kind, &signs],
            "invalid authority ID: unable to use current authority",
        );
        refused(&["activate", kind, &signs], "unexpected authority ID");
        refused(&["activate", kind], "none is prepared");
        refused(&["taint", kind, "00"], "unexpected authority ID");
        authority(&cluster, &["prepare", kind]);
        authority(&cluster, &["activate", kind]);
        refused(
            &["revoke", kind, &signs],
            "it is not possible to revoke an untainted",
        );
    }
    // What was refused changed nothing.
    let bundle = cluster.bundle();
    assert_eq!(
        (bundle.x509_authorities.len(), bundle.jwt_authorities.len()),
        (2, 2)
    );
    assert!(bundle.x509_authorities.iter().all(|authority| !authority.tainted));
    assert!(cluster.take_server().stop().success());
    let all = records(&cluster.path().join("server/data/audit"));
    for (action, refusals) in [
        ("authority.taint", 4),
        ("authority.revoke", 4),
        ("authority.activate", 2),
    ] {
        let refused = recorded(&all, action);
        let refused = refused.iter().filter(|record| record["reference"].is_string());
        assert_eq!(refused.count(), refusals, "{action}");
    }
}
