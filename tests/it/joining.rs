//! Join tokens: one token, one node.

use std::{fs, process::Command, sync::Arc};

use muster_identity::{Lifetime, UnixTime};
use muster_pki::{
    KeyAlgorithm, LocalKey,
    bundle::Bundle,
    x509::{RootProfile, ca_subject, create_csr, issue_root},
};
use muster_proto::grant::{CreateRequest, DeleteRequest, Grant, grant::Subject, grants_client::GrantsClient};
use muster_proto::spire::server::agent::{
    AgentX509svidParams, AttestAgentRequest, CreateJoinTokenRequest, ListAgentsRequest,
    agent_client::AgentClient,
    attest_agent_request::{Params, Step},
};
use muster_proto::spire::types::AttestationData;
use muster_tests::{Cluster, Identity, Settings, TRUST_DOMAIN, binary, tcp_channel};
use tonic::{Code, Status, transport::Channel};

use crate::audit::{recorded, records};

async fn attest(mut client: AgentClient<Channel>, token: String, csr: Vec<u8>) -> Result<String, Status> {
    let params = Params {
        data: Some(AttestationData {
            r#type: "join_token".into(),
            payload: token.into_bytes(),
        }),
        params: Some(AgentX509svidParams { csr }),
    };
    let request = tokio_stream::once(AttestAgentRequest {
        step: Some(Step::Params(params)),
    });
    let mut answers = client.attest_agent(request).await?.into_inner();
    let answer = answers
        .message()
        .await?
        .ok_or_else(|| Status::internal("no answer"))?;
    match answer.step {
        Some(muster_proto::spire::server::agent::attest_agent_response::Step::Result(result)) => {
            let id = result.svid.unwrap().id.unwrap();
            Ok(format!("spiffe://{}{}", id.trust_domain, id.path))
        }
        _ => Err(Status::internal("a challenge")),
    }
}

fn csr_of(key: &LocalKey) -> Vec<u8> {
    create_csr(key, None).unwrap()
}

fn new_key() -> LocalKey {
    LocalKey::generate(KeyAlgorithm::EcP256).unwrap()
}

fn token(cluster: &Cluster, ttl: i32) -> String {
    cluster.block_on(async {
        let request = CreateJoinTokenRequest {
            ttl,
            ..Default::default()
        };
        AgentClient::new(cluster.channel().await)
            .create_join_token(request)
            .await
            .unwrap()
            .into_inner()
            .value
    })
}

#[test]
fn of_a_thousand_who_redeem_one_token_at_once_exactly_one_gets_in() {
    let cluster = Cluster::start(&Settings::default());
    let nodes = || {
        cluster.block_on(async {
            let mut client = AgentClient::new(cluster.channel().await);
            client
                .list_agents(ListAgentsRequest::default())
                .await
                .unwrap()
                .into_inner()
                .agents
                .len()
        })
    };
    let before = nodes();
    let token = token(&cluster, 600);
    let csrs: Vec<Vec<u8>> = (0..1000).map(|_| csr_of(&new_key())).collect();
    let outcomes = cluster.block_on(async {
        let client = AgentClient::new(cluster.channel().await);
        let calls = csrs
            .into_iter()
            .map(|csr| cluster.spawn(attest(client.clone(), token.clone(), csr)));
        let calls: Vec<_> = calls.collect();
        let mut outcomes = vec![];
        for call in calls {
            outcomes.push(call.await.unwrap());
        }
        outcomes
    });
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    assert_eq!(nodes(), before + 1);
    for refused in outcomes.into_iter().filter_map(Result::err) {
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    }
}

#[test]
fn a_join_that_is_tried_again_with_the_same_key_succeeds_and_with_another_fails() {
    let cluster = Cluster::start(&Settings::default());
    let token = token(&cluster, 600);
    let key = new_key();
    let join = |key: &LocalKey| {
        let csr = csr_of(key);
        cluster
            .block_on(async { attest(AgentClient::new(cluster.channel().await), token.clone(), csr).await })
    };
    let first = join(&key).unwrap();
    assert_eq!(join(&key).unwrap(), first);
    assert_eq!(join(&new_key()).unwrap_err().code(), Code::InvalidArgument);
}

#[test]
fn unknown_and_expired_tokens_are_told_apart_from_each_other() {
    let cluster = Cluster::start(&Settings::default());
    let join = |token: &str| {
        let csr = csr_of(&new_key());
        cluster.block_on(async { attest(AgentClient::new(cluster.channel().await), token.into(), csr).await })
    };
    let unknown = join("no-such-token").unwrap_err();
    assert_eq!(unknown.code(), Code::InvalidArgument);
    assert!(
        unknown
            .message()
            .contains("does not exist or has already been used"),
        "{unknown}"
    );
    let short = token(&cluster, 1);
    // Its second is over when the clock says so: tokens count whole seconds.
    let made = std::time::Instant::now();
    muster_tests::until("the token's second is over", || {
        made.elapsed() > std::time::Duration::from_secs(2)
    });
    let expired = join(&short).unwrap_err();
    assert!(expired.message().contains("expired"), "{expired}");
}

/// Whoever loses a grant loses what he gave away by it, too.
#[test]
fn a_token_made_by_a_grant_that_was_deleted_lets_nobody_in() {
    const ROBOT: &str = "spiffe://example.org/robots/joiner";
    let mut cluster = Cluster::start_server_only(&Settings::default());
    let refused = cluster.block_on(async {
        let mut grants = GrantsClient::new(cluster.channel().await);
        let grant = Grant {
            name: "joiner".into(),
            subject: Some(Subject::SpiffeId(ROBOT.into())),
            verbs: vec!["token.create".into()],
            parents: vec!["/spire/agent".into()],
            ..Grant::default()
        };
        let request = CreateRequest { grant: Some(grant) };
        grants.create(request).await.unwrap();
        let robot = Identity::minted(&cluster, ROBOT, 600).await;
        let robot = tcp_channel(&cluster, Some(&robot)).await;
        let mut tokens = Vec::new();
        for _ in 0..2 {
            let request = CreateJoinTokenRequest {
                ttl: 600,
                ..Default::default()
            };
            let made = AgentClient::new(robot.clone()).create_join_token(request).await;
            tokens.push(made.unwrap().into_inner().value);
        }
        let nodes = AgentClient::new(cluster.channel().await);
        let join = |token| attest(nodes.clone(), token, csr_of(&new_key()));
        join(tokens.remove(0)).await.expect("the grant lives");
        let request = DeleteRequest {
            name: "joiner".into(),
        };
        grants.delete(request).await.unwrap();
        join(tokens.remove(0)).await.unwrap_err()
    });
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    assert!(refused.message().contains("the grant joiner"), "{refused}");
    assert!(cluster.take_server().stop().success());
    let records = records(&cluster.path().join("server/data/audit"));
    let recorded = recorded(&records, "node.attest");
    let is_told = |record: &&&serde_json::Value| record.to_string().contains("the grant joiner");
    assert_eq!(recorded.iter().filter(is_told).count(), 1);
}

/// There is no trust on first use: what answers at the server's address is not the server for that.
#[test]
fn a_server_that_is_not_the_pinned_one_is_not_joined_and_never_sees_the_token() {
    let cluster = Cluster::start_server_only(&Settings::default());
    let token = token(&cluster, 600);
    let of_others = cluster.path().join("others.pem");
    let root = RootProfile {
        trust_domain: TRUST_DOMAIN.parse().unwrap(),
        subject: ca_subject(),
        now: UnixTime::from_secs(time::OffsetDateTime::now_utc().unix_timestamp()),
        lifetime: Lifetime::from_secs(600).unwrap(),
    };
    let root = issue_root(Arc::new(new_key()), &root).unwrap();
    let mut bundle = Bundle::new(TRUST_DOMAIN.parse().unwrap());
    bundle.put_x509_authority(root.authority().clone());
    fs::write(&of_others, bundle.x509_pem()).unwrap();
    let of_others = of_others.display().to_string();
    let (server, data) = (cluster.server_address(), cluster.path().join("node"));
    let join = |pin: &[&str]| {
        let output = Command::new(binary("muster-agent"))
            .args([
                "join",
                "--server",
                server,
                "--token",
                &token,
                "--config",
                "/nonexistent",
            ])
            .arg("--data-dir")
            .arg(&data)
            .args(pin)
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let (code, said) = join(&[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("--bundle"), "{said}");
    for pin in [["--bundle-sha256", &"ab".repeat(32)], ["--bundle", &of_others]] {
        let (code, said) = join(&pin);
        assert_eq!(code, Some(1), "{pin:?}: {said}");
        assert!(!said.contains(&token), "{said}");
    }
    // Nobody who was asked above has it: it still lets its one node in.
    let csr = csr_of(&new_key());
    let joined = cluster
        .block_on(async { attest(AgentClient::new(cluster.channel().await), token.clone(), csr).await });
    assert!(joined.is_ok(), "{joined:?}");
}
