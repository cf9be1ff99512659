//! The kind of the server changes under a running agent.

use std::process::Command;

use muster_proto::spire::server::{
    agent::{GetAgentRequest, agent_client::AgentClient},
    bundle::{AppendBundleRequest, GetBundleRequest, bundle_client::BundleClient},
};
use muster_tests::{
    Cluster, Home, PollingAgent, Process, Settings, SpireServer, SpireSettings, TRUST_DOMAIN, Workload,
    need_programs, spire_is_here, until,
};

use super::{OurAgent, paths, proxy::Proxy, register, serial};

#[test]
fn our_agent_goes_from_a_muster_server_to_a_spire_server_and_back_without_a_gap() {
    if !spire_is_here() || !need_programs(&["python3"]) {
        return;
    }
    let cluster = Cluster::start_server_only(&Settings::default());
    let spire = SpireServer::start(&SpireSettings::default());
    // One trust domain: each server vouches for the other's authorities too.
    let (ours, theirs) = (cluster.home(), spire.home());
    cluster.block_on(async {
        vouch(&theirs, &ours).await;
        vouch(&ours, &theirs).await;
    });
    let proxy = Proxy::start(&ours.address);
    let agent = OurAgent::join(spire.path(), &cluster.home(), &proxy.address(), "");
    cluster.block_on(take_over(&ours, &spire, &agent.node));
    register(&ours, &agent.node, "/everywhere", &[]);
    register(&ours, &agent.node, "/ours", &[]);
    register(&theirs, &agent.node, "/everywhere", &[]);
    register(&theirs, &agent.node, "/theirs", &[]);

    // SPIRE's server reads its entries every five seconds; what another node sees is in its memory.
    let other = "spiffe://example.org/other";
    let mut witness = cluster.block_on(PollingAgent::join(&theirs, other));
    register(&theirs, other, "/last", &[]);
    until("SPIRE's server to know its entries", || {
        cluster.block_on(witness.poll()).unwrap();
        witness.held() == 2
    });

    let watching = agent.watching("what our server gives", |paths| paths == ["/everywhere", "/ours"]);
    let mut last = String::new();
    for (home, other) in [
        (&ours, "/ours"),
        (&theirs, "/theirs"),
        (&ours, "/ours"),
        (&theirs, "/theirs"),
    ] {
        proxy.lead_to(&home.address);
        // An SVID of this server, and never a moment without one.
        let event = watching.event_where("what this server gives", |event| {
            assert!(paths(event).contains(&"/everywhere".to_owned()), "{event}");
            paths(event) == ["/everywhere", other] && serial(event, "/everywhere") != last
        });
        last = serial(&event, "/everywhere");
        let jwt = agent.client(Workload::Rust, &["fetch-jwt", other]).event("jwt");
        let token = jwt["svids"][0]["token"].as_str().unwrap();
        agent
            .client(Workload::Rust, &["validate-jwt", other, token])
            .event("valid");
    }
    knows_no_error(&watching);
}

/// `home` takes the authorities of `other` into its bundle.
async fn vouch(home: &Home, other: &Home) {
    let request = GetBundleRequest { output_mask: None };
    let bundle = BundleClient::new(other.channel().await)
        .get_bundle(request)
        .await
        .unwrap()
        .into_inner();
    let request = AppendBundleRequest {
        x509_authorities: bundle.x509_authorities,
        jwt_authorities: bundle.jwt_authorities,
        ..Default::default()
    };
    BundleClient::new(home.channel().await)
        .append_bundle(request)
        .await
        .unwrap();
}

/// What an operator does who moves nodes from one server to another: the second takes over what the first knows of one.
async fn take_over(from: &Home, to: &SpireServer, node: &str) {
    let path = node.strip_prefix(&format!("spiffe://{TRUST_DOMAIN}")).unwrap();
    let request = GetAgentRequest {
        id: Some(muster_proto::spire::types::Spiffeid {
            trust_domain: TRUST_DOMAIN.into(),
            path: path.into(),
        }),
        output_mask: None,
    };
    let known = AgentClient::new(from.channel().await)
        .get_agent(request)
        .await
        .unwrap()
        .into_inner();
    let script = "import sqlite3, sys, datetime\n\
        store, node, serial, end = sys.argv[1:]\n\
        end = datetime.datetime.fromtimestamp(int(end), datetime.timezone.utc).strftime('%Y-%m-%d %H:%M:%S+00:00')\n\
        with sqlite3.connect(store, timeout=30) as db:\n\
        \x20   db.execute('insert into attested_node_entries (created_at, updated_at, spiffe_id, data_type, serial_number, expires_at, '\n\
        \x20              'new_serial_number, can_reattest, agent_version) values (?, ?, ?, ?, ?, ?, ?, ?, ?)',\n\
        \x20              (end, end, node, 'join_token', serial, end, '', False, ''))\n";
    let done = Command::new("python3")
        .args(["-c", script])
        .arg(to.path().join("data/datastore.sqlite3"))
        .args([
            node,
            &known.x509svid_serial_number,
            &known.x509svid_expires_at.to_string(),
        ])
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// The client's stream is the one that it opened first.
fn knows_no_error(watching: &Process) {
    let said = watching.said();
    assert!(!said.contains("\"error\""), "{said}");
}
