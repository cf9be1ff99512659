//! Each method of the server is open to the roles that SPIRE's users know, and to nobody else.

use std::collections::BTreeSet;

use muster_proto::spire::server::agent::{BanAgentRequest, agent_client::AgentClient};
use muster_tests::{Cluster, Identity, Settings, tcp_channel};
use tonic::{Code, Request, Status, transport::Channel};

/// Who asks.
const NOBODY: &str = "somebody without a certificate";
const WORKLOAD: &str = "a workload of the trust domain";
const AGENT: &str = "a node";
const DOWNSTREAM: &str = "a downstream server";
const ADMIN: &str = "an administrator by configuration";
const ENTRY_ADMIN: &str = "an administrator by an entry";
const LOCAL: &str = "somebody on the admin socket";

const ADMINS: &[&str] = &[ADMIN, ENTRY_ADMIN, LOCAL];
const ADMINS_AND_AGENT: &[&str] = &[ADMIN, ENTRY_ADMIN, LOCAL, AGENT];
const ALL: &[&str] = &[NOBODY, WORKLOAD, AGENT, DOWNSTREAM, ADMIN, ENTRY_ADMIN, LOCAL];

/// Written down a second time on purpose: the server's own table is what is tested.
const OPEN: &[(&str, &[&str], &[&str])] = &[
    ("spire.api.server.agent.v1.Agent", ALL, &["AttestAgent"]),
    (
        "spire.api.server.agent.v1.Agent",
        &[AGENT],
        &["RenewAgent", "PostStatus"],
    ),
    (
        "spire.api.server.agent.v1.Agent",
        ADMINS,
        &[
            "CountAgents",
            "ListAgents",
            "GetAgent",
            "DeleteAgent",
            "BanAgent",
            "CreateJoinToken",
        ],
    ),
    ("spire.api.server.bundle.v1.Bundle", ALL, &["GetBundle"]),
    (
        "spire.api.server.bundle.v1.Bundle",
        ADMINS_AND_AGENT,
        &["GetFederatedBundle"],
    ),
    (
        "spire.api.server.bundle.v1.Bundle",
        &[DOWNSTREAM],
        &["PublishJWTAuthority", "PublishWITAuthority"],
    ),
    (
        "spire.api.server.bundle.v1.Bundle",
        ADMINS,
        &[
            "CountBundles",
            "AppendBundle",
            "ListFederatedBundles",
            "BatchCreateFederatedBundle",
            "BatchUpdateFederatedBundle",
            "BatchSetFederatedBundle",
            "BatchDeleteFederatedBundle",
        ],
    ),
    (
        "spire.api.server.entry.v1.Entry",
        &[AGENT],
        &["GetAuthorizedEntries", "SyncAuthorizedEntries"],
    ),
    (
        "spire.api.server.entry.v1.Entry",
        ADMINS,
        &[
            "CountEntries",
            "ListEntries",
            "GetEntry",
            "BatchCreateEntry",
            "BatchUpdateEntry",
            "BatchDeleteEntry",
        ],
    ),
    (
        "spire.api.server.svid.v1.SVID",
        &[AGENT],
        &["BatchNewX509SVID", "NewJWTSVID", "BatchNewWITSVID"],
    ),
    (
        "spire.api.server.svid.v1.SVID",
        &[DOWNSTREAM],
        &["NewDownstreamX509CA"],
    ),
    (
        "spire.api.server.svid.v1.SVID",
        ADMINS,
        &["MintX509SVID", "MintJWTSVID", "MintWITSVID"],
    ),
    (
        "spire.api.server.localauthority.v1.LocalAuthority",
        ADMINS,
        &[
            "GetX509AuthorityState",
            "PrepareX509Authority",
            "ActivateX509Authority",
            "TaintX509Authority",
            "RevokeX509Authority",
            "GetJWTAuthorityState",
            "PrepareJWTAuthority",
            "ActivateJWTAuthority",
            "TaintJWTAuthority",
            "RevokeJWTAuthority",
            "TaintX509UpstreamAuthority",
            "RevokeX509UpstreamAuthority",
            "GetWITAuthorityState",
            "PrepareWITAuthority",
            "ActivateWITAuthority",
            "TaintWITAuthority",
            "RevokeWITAuthority",
        ],
    ),
    (
        "spire.api.server.trustdomain.v1.TrustDomain",
        ADMINS,
        &[
            "ListFederationRelationships",
            "GetFederationRelationship",
            "BatchCreateFederationRelationship",
            "BatchUpdateFederationRelationship",
            "BatchDeleteFederationRelationship",
            "RefreshBundle",
        ],
    ),
    (
        "muster.federation.v1.Federation",
        ADMINS,
        &["ListPeers", "Revoke", "Release", "Narrow"],
    ),
    ("muster.authority.v1.Rotation", ADMINS, &["GetProgress"]),
    ("muster.entry.v1.Delivery", ADMINS, &["Follow"]),
    (
        "spire.api.server.logger.v1.Logger",
        &[LOCAL],
        &["GetLogger", "SetLogLevel", "ResetLogLevel"],
    ),
    ("spire.api.server.debug.v1.Debug", &[LOCAL], &["GetInfo"]),
    ("grpc.health.v1.Health", &[LOCAL], &["Check", "Watch"]),
    ("muster.node.v1.Node", &[AGENT], &["Sync", "Issue"]),
    (
        "muster.grant.v1.Grants",
        ADMINS,
        &["Create", "List", "Get", "Update", "Delete"],
    ),
];

#[test]
fn every_method_that_is_served_stands_in_the_table_of_roles() {
    let paths = |service: &str, methods: &mut dyn Iterator<Item = &str>| {
        methods
            .map(|method| format!("/{service}/{method}"))
            .collect::<Vec<_>>()
    };
    // What is not in the server's own table is closed to everybody, so nothing else is served.
    let served: BTreeSet<_> = muster_server::api::methods::SERVICES
        .iter()
        .flat_map(|(service, methods)| paths(service, &mut methods.iter().map(|(name, _)| *name)))
        .collect();
    let told: Vec<_> = OPEN
        .iter()
        .flat_map(|(service, _, methods)| paths(service, &mut methods.iter().copied()))
        .collect();
    let distinct: BTreeSet<_> = told.iter().cloned().collect();
    assert_eq!(served, distinct);
    assert_eq!(told.len(), distinct.len(), "a method stands in the table twice");
}

#[test]
fn every_method_is_open_to_its_roles_and_to_no_other() {
    let cluster = Cluster::start_server_only(&Settings {
        server: "admin_ids = [\"spiffe://example.org/admin\"]\n[limits]\nattestation = false\n",
        ..Settings::default()
    });
    let mut downstream = cluster.entry("/downstream", &["unix:uid:0"]);
    downstream.downstream = true;
    let mut admin = cluster.entry("/entry-admin", &["unix:uid:0"]);
    admin.admin = true;
    for entry in [&mut downstream, &mut admin] {
        entry.parent_id.as_mut().unwrap().path = "/spire/agent/join_token/none".into();
    }
    cluster.register_entry(downstream);
    cluster.register_entry(admin);
    let wrong = cluster.block_on(async {
        let mut roles = vec![
            (NOBODY, tcp_channel(&cluster, None).await),
            (LOCAL, cluster.channel().await),
        ];
        let node = Identity::joined(&cluster).await;
        roles.push((AGENT, tcp_channel(&cluster, Some(&node)).await));
        for (role, path) in [
            (WORKLOAD, "/web"),
            (DOWNSTREAM, "/downstream"),
            (ADMIN, "/admin"),
            (ENTRY_ADMIN, "/entry-admin"),
        ] {
            let identity = Identity::minted(&cluster, &format!("spiffe://example.org{path}"), 600).await;
            roles.push((role, tcp_channel(&cluster, Some(&identity)).await));
        }
        let mut wrong = BTreeSet::new();
        for (service, open, methods) in OPEN {
            for method in *methods {
                let path = format!("/{service}/{method}");
                for (role, channel) in &roles {
                    let denied = is_denied(&call(channel.clone(), &path).await);
                    if denied == open.contains(role) {
                        wrong.insert(format!(
                            "{path} is {} to {role}",
                            if denied { "closed" } else { "open" }
                        ));
                    }
                }
            }
        }
        wrong
    });
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_certificate_that_ended_opens_nothing_on_a_warm_connection() {
    let cluster = Cluster::start_server_only(&Settings {
        server: "admin_ids = [\"spiffe://example.org/admin\"]\n",
        ..Settings::default()
    });
    cluster.block_on(async {
        let short = Identity::minted(&cluster, "spiffe://example.org/admin", 3).await;
        let channel = tcp_channel(&cluster, Some(&short)).await;
        let path = "/spire.api.server.entry.v1.Entry/CountEntries";
        assert!(
            !is_denied(&call(channel.clone(), path).await),
            "open while it counts"
        );
        // What is waited for is the end of the certificate: each call looks whether it came.
        let give_up = tokio::time::Instant::now() + muster_tests::PATIENCE;
        while !is_shut(&call(channel.clone(), path).await) {
            assert!(tokio::time::Instant::now() < give_up, "still open");
        }
        let again = tcp_channel(&cluster, Some(&short)).await;
        assert!(
            is_shut(&call(again, path).await),
            "a new connection opens nothing either"
        );
    });
}

#[test]
fn a_banned_node_is_refused_on_a_warm_connection() {
    let cluster = Cluster::start_server_only(&Settings::default());
    cluster.block_on(async {
        let node = Identity::joined(&cluster).await;
        let channel = tcp_channel(&cluster, Some(&node)).await;
        let entries = || async {
            use muster_proto::spire::server::entry::{
                GetAuthorizedEntriesRequest, entry_client::EntryClient,
            };
            EntryClient::new(channel.clone())
                .get_authorized_entries(GetAuthorizedEntriesRequest::default())
                .await
        };
        entries().await.expect("a node may ask for its entries");
        let id = muster_proto::spire::types::Spiffeid {
            trust_domain: "example.org".into(),
            path: node.svid.id().path().as_str().into(),
        };
        let request = BanAgentRequest { id: Some(id) };
        AgentClient::new(cluster.channel().await)
            .ban_agent(request)
            .await
            .unwrap();
        let refused = entries().await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    });
}

/// One empty message to any method, unary or streaming, and what comes of it.
async fn call(channel: Channel, path: &str) -> Result<(), Status> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready()
        .await
        .map_err(|error| Status::new(Code::Unavailable, error.to_string()))?;
    let request = Request::new(tokio_stream::iter([()]));
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let answers = grpc
        .streaming(request, path.parse().expect("a path"), codec)
        .await?;
    answers.into_inner().message().await.map(drop)
}

/// Refused by the method, or by the door: it ends a connection together with its certificate.
fn is_shut(answer: &Result<(), Status>) -> bool {
    match answer {
        Err(status) if status.code() == Code::Unavailable => true,
        // A connection that ends under a call is a transport error, which tonic gives no code of its own.
        Err(status) if std::error::Error::source(status).is_some() => true,
        answer => is_denied(answer),
    }
}

fn is_denied(answer: &Result<(), Status>) -> bool {
    match answer {
        Err(status) if status.message().contains("authorization denied for method") => {
            assert_eq!(status.code(), Code::PermissionDenied);
            true
        }
        Err(status) if status.code() == Code::Unavailable => panic!("the connection is gone: {status}"),
        _ => false,
    }
}
