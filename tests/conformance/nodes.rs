//! Part 10: what a node gets from a running server, and when it gets nothing more.

use muster_pki::x509::create_csr;
use muster_proto::spire::{
    server::{
        agent::{
            AgentX509svidParams, BanAgentRequest, DeleteAgentRequest, RenewAgentRequest,
            agent_client::AgentClient,
        },
        entry::{GetAuthorizedEntriesRequest, entry_client::EntryClient},
        svid::{
            BatchNewX509svidRequest, NewX509svidParams, batch_new_x509svid_response, svid_client::SvidClient,
        },
    },
    types,
};
use muster_tests::{Cluster, Identity, Settings, tcp_channel};
use tonic::{Code, Status, transport::Channel};

use crate::{
    book::Book,
    issuer::{bundles, conforms, now, parse},
    requests,
};

pub(crate) fn judge(book: &mut Book) {
    let cluster = Cluster::start_server_only(&Settings {
        server: "[limits]\nattestation = false\n",
        ..Settings::default()
    });
    book.case("IS-03", || cluster.block_on(its_key_alone(&cluster)));
    book.case("IS-12", || cluster.block_on(of_another_node(&cluster)));
    book.case("IS-13", || cluster.block_on(no_node_any_more(&cluster)));
    book.case("IS-13", no_node_after_its_end);
    book.case("IS-14", a_new_authority);
}

async fn its_key_alone(cluster: &Cluster) {
    let node = Identity::joined(cluster).await;
    let entry = entry_below(cluster, &node, "/plain").await;
    let (csr, key) = requests::greedy();
    let result = sign(&tcp_channel(cluster, Some(&node)).await, &entry, csr).await;
    assert_eq!(result.status.unwrap().code, 0);
    let svid = parse(result.svid.unwrap().cert_chain);
    conforms_in(cluster, &svid).await;
    assert_eq!(svid.id().to_string(), "spiffe://example.org/plain");
    assert_eq!(svid.leaf().uris(), ["spiffe://example.org/plain"]);
    assert!(svid.leaf().dns_names().is_empty() && !svid.leaf().is_ca());
    assert_eq!(svid.public_key().key_bytes(), key);
    let text = String::from_utf8_lossy(svid.chain()[0].as_ref()).into_owned();
    for wish in ["root", "bank.example", "admin"] {
        assert!(!text.contains(wish), "{wish}");
    }
}

async fn of_another_node(cluster: &Cluster) {
    let (mine, other) = (Identity::joined(cluster).await, Identity::joined(cluster).await);
    let entry = entry_below(cluster, &other, "/others").await;
    let channel = tcp_channel(cluster, Some(&mine)).await;
    let mut refusals = Vec::new();
    for id in [entry.as_str(), "8e1c3f0e-0000-4000-8000-000000000000"] {
        let result = sign(&channel, id, requests::plain("spiffe://example.org/others")).await;
        assert!(result.svid.is_none());
        let status = result.status.unwrap();
        refusals.push((status.code, without_reference(&status.message).replace(id, "ID")));
    }
    assert_eq!(refusals[0], refusals[1]);
    assert!([i32::from(Code::NotFound), i32::from(Code::PermissionDenied)].contains(&refusals[0].0));
}

async fn no_node_any_more(cluster: &Cluster) {
    let (banned, evicted, superseded) = (
        Identity::joined(cluster).await,
        Identity::joined(cluster).await,
        Identity::joined(cluster).await,
    );
    let mut admin = AgentClient::new(cluster.channel().await);
    let channel = tcp_channel(cluster, Some(&banned)).await;
    entries(&channel).await.expect("a node may ask");
    admin
        .ban_agent(BanAgentRequest {
            id: Some(id(&banned)),
        })
        .await
        .unwrap();
    assert_eq!(
        entries(&channel).await.unwrap_err().code(),
        Code::PermissionDenied
    );

    let channel = tcp_channel(cluster, Some(&evicted)).await;
    entries(&channel).await.expect("a node may ask");
    admin
        .delete_agent(DeleteAgentRequest {
            id: Some(id(&evicted)),
        })
        .await
        .unwrap();
    assert_eq!(
        entries(&channel).await.unwrap_err().code(),
        Code::PermissionDenied
    );

    let old = tcp_channel(cluster, Some(&superseded)).await;
    let key = Identity::key();
    let csr = create_csr(&*key, None).unwrap();
    let request = RenewAgentRequest {
        params: Some(AgentX509svidParams { csr }),
    };
    let renewed = AgentClient::new(old.clone())
        .renew_agent(request)
        .await
        .unwrap()
        .into_inner();
    let renewed = Identity {
        svid: parse(renewed.svid.unwrap().cert_chain),
        key,
    };
    let new = tcp_channel(cluster, Some(&renewed)).await;
    // The old one counts until the node has shown that it holds the new one: an answer can get lost.
    entries(&new).await.expect("the renewed node");
    assert_eq!(entries(&old).await.unwrap_err().code(), Code::PermissionDenied);
}

/// Nodes of 5 s.
fn no_node_after_its_end() {
    let cluster = Cluster::start_server_only(&Settings {
        server: "[ca]\nnode = \"5s\"\n",
        ..Settings::default()
    });
    cluster.block_on(async {
        let node = Identity::joined(&cluster).await;
        let end = node.svid.not_after();
        let open = tcp_channel(&cluster, Some(&node)).await;
        entries(&open).await.expect("a node may ask");
        let refused = loop {
            let asked = now();
            match entries(&open).await {
                Ok(()) => assert!(asked <= end, "it is served after its end"),
                Err(status) => break status,
            }
        };
        assert!(now() >= end, "refused before its end: {refused}");
        assert!(is_shut(&refused), "{refused}");
        let again = entries(&tcp_channel(&cluster, Some(&node)).await).await;
        let again = again.expect_err("a new connection opens nothing either");
        assert!(is_shut(&again), "{again}");
        let other = Identity::joined(&cluster).await;
        entries(&tcp_channel(&cluster, Some(&other)).await)
            .await
            .expect("another node may ask");
    });
}

/// Refused by the method, or by the door: it ends a connection together with its certificate.
fn is_shut(status: &Status) -> bool {
    // A connection that ends under a call is a transport error, which tonic gives no code of its own.
    let ended = status.code() == Code::Unavailable || std::error::Error::source(status).is_some();
    ended || status.code() == Code::PermissionDenied
}

/// Authorities of 60 s, leaves of 5 s: the second one signs after 50 s.
fn a_new_authority() {
    let cluster = Cluster::start_server_only(&Settings {
        server: "[ca]\nlifetime = \"60s\"\nx509_svid = \"5s\"\nmax_x509_svid = \"5s\"\njwt_svid = \"5s\"\nmax_jwt_svid = \"5s\"\nnode = \"5s\"\n",
        ..Settings::default()
    });
    let mint = || {
        // The bundle of before must do for the leaf of after.
        let before = bundles(&cluster);
        let svid = cluster
            .block_on(Identity::minted(&cluster, "spiffe://example.org/w", 5))
            .svid;
        muster_pki::x509::verify_x509_svid(svid.chain(), &before, now()).expect("its authority was known");
        svid
    };
    let first = mint();
    let mut last_of_first = first.clone();
    let second = loop {
        let svid = mint();
        if svid.leaf().issuer() != first.leaf().issuer() {
            break svid;
        }
        last_of_first = svid;
    };
    conforms(&cluster, &second);
    while now() < last_of_first.not_after() {
        let held = bundles(&cluster);
        let old = held
            .own()
            .x509_authorities()
            .iter()
            .any(|one| one.certificate().subject() == first.leaf().issuer());
        assert!(
            old || now() >= last_of_first.not_after(),
            "dropped before its last leaf ended"
        );
    }
}

async fn conforms_in(cluster: &Cluster, svid: &muster_pki::x509::X509Svid) {
    use muster_proto::spire::server::bundle::{GetBundleRequest, bundle_client::BundleClient};
    let request = GetBundleRequest { output_mask: None };
    let held = BundleClient::new(cluster.channel().await)
        .get_bundle(request)
        .await
        .unwrap()
        .into_inner();
    let der: Vec<u8> = held
        .x509_authorities
        .into_iter()
        .flat_map(|one| one.asn1)
        .collect();
    let bundle = muster_pki::bundle::Bundle::from_der_concat("example.org".parse().unwrap(), &der).unwrap();
    let set = muster_pki::bundle::BundleSet::new(std::sync::Arc::new(bundle));
    muster_pki::x509::verify_x509_svid(svid.chain(), &set, now()).expect("it verifies");
}

async fn sign(channel: &Channel, entry_id: &str, csr: Vec<u8>) -> batch_new_x509svid_response::Result {
    let params = NewX509svidParams {
        entry_id: entry_id.into(),
        csr,
    };
    let request = BatchNewX509svidRequest { params: vec![params] };
    let answer = SvidClient::new(channel.clone())
        .batch_new_x509svid(request)
        .await
        .unwrap()
        .into_inner();
    answer.results.into_iter().next().unwrap()
}

async fn entries(channel: &Channel) -> Result<(), Status> {
    let request = GetAuthorizedEntriesRequest::default();
    EntryClient::new(channel.clone())
        .get_authorized_entries(request)
        .await
        .map(drop)
}

async fn entry_below(cluster: &Cluster, node: &Identity, path: &str) -> String {
    use muster_proto::spire::server::entry::BatchCreateEntryRequest;
    let mut entry = cluster.entry(path, &["unix:uid:0"]);
    entry.parent_id = Some(id(node));
    let request = BatchCreateEntryRequest {
        entries: vec![entry],
        output_mask: None,
    };
    let answer = EntryClient::new(cluster.channel().await)
        .batch_create_entry(request)
        .await
        .unwrap()
        .into_inner();
    answer.results[0].entry.as_ref().unwrap().id.clone()
}

fn id(node: &Identity) -> types::Spiffeid {
    types::Spiffeid {
        trust_domain: "example.org".into(),
        path: node.svid.id().path().as_str().into(),
    }
}

/// Each refusal has a reference of its own.
fn without_reference(message: &str) -> &str {
    message.split(" (reference ").next().unwrap_or(message)
}
