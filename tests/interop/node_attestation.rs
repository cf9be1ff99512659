//! A scripted agent goes through its life on either server; both must say the same at each step.

use muster_pki::{
    Signer,
    x509::{CertificateDer, X509Svid, create_csr},
};
use muster_proto::{
    convert::denial_reason,
    spire::{
        server::agent::{
            AgentX509svidParams, AttestAgentRequest, BanAgentRequest, CreateJoinTokenRequest,
            DeleteAgentRequest, PostStatusRequest, RenewAgentRequest,
            agent_client::AgentClient,
            attest_agent_request::{Params, Step},
            attest_agent_response,
        },
        types,
    },
};
use muster_tests::{Cluster, Home, Identity, Settings, SpireServer, SpireSettings, spire_is_here};
use tonic::{Response, Status, transport::Channel};

#[test]
fn a_scripted_agent_lives_the_same_life_on_either_server() {
    if !spire_is_here() {
        return;
    }
    let spire = SpireServer::start(&SpireSettings {
        server: "ratelimit { attestation = false }",
        ..SpireSettings::default()
    });
    let muster = Cluster::start_server_only(&Settings {
        server: "[limits]\nattestation = false\n",
        ..Settings::default()
    });
    let said = [spire.home(), muster.home()].map(|home| muster.block_on(life(&home)));
    let [spire, muster] = said;
    assert_eq!(muster, spire);
    println!("figure: the same answer at each of {} steps", spire.len());
}

/// Each step with its answer.
type Said = Vec<(&'static str, String)>;

async fn life(home: &Home) -> Said {
    let mut said = vec![];
    malformed(home, &mut said).await;
    let operator = || async { AgentClient::new(home.channel().await) };

    let token = operator()
        .await
        .create_join_token(CreateJoinTokenRequest {
            ttl: 600,
            ..Default::default()
        })
        .await
        .unwrap()
        .into_inner()
        .value;
    let key = Identity::key();
    let csr = create_csr(&*key, None).unwrap();
    let attested = attest(home.tcp(None).await, params("join_token", &token, &csr)).await;
    let first = attested.unwrap();
    said.push(("reattestable", first.reattestable.to_string()));
    let first = Identity {
        svid: parse(first.svid.unwrap()),
        key,
    };
    let id = first.svid.id().clone();
    let other = create_csr(&*Identity::key(), None).unwrap();
    let again = attest(home.tcp(None).await, params("join_token", &token, &other)).await;
    said.push(("the token again", outcome(again)));
    let posted = post(home, &first).await;
    said.push(("status", outcome(posted)));

    let renewed = renew(home, &first).await;
    said.push(("renewal", outcome(renewed.as_ref())));
    let second = renewed.unwrap();
    said.push((
        "the old one before the new is used",
        outcome(post(home, &first).await),
    ));
    said.push(("the new one", outcome(post(home, &second).await)));
    said.push(("the old one after that", outcome(post(home, &first).await)));

    let ban = BanAgentRequest {
        id: Some((&id).into()),
    };
    let banned = operator().await.ban_agent(ban).await;
    said.push(("ban", outcome(banned)));
    said.push(("status of a banned agent", outcome(post(home, &second).await)));
    said.push(("renewal of a banned agent", outcome(renew(home, &second).await)));
    let evict = || DeleteAgentRequest {
        id: Some((&id).into()),
    };
    said.push(("evict", outcome(operator().await.delete_agent(evict()).await)));
    said.push((
        "evict again",
        outcome(operator().await.delete_agent(evict()).await),
    ));
    said.push(("status of an evicted agent", outcome(post(home, &second).await)));
    let again = attest(home.tcp(None).await, params("join_token", &token, &other)).await;
    said.push(("the token of an evicted agent", outcome(again)));
    said
}

/// First messages that are no attestation.
async fn malformed(home: &Home, said: &mut Said) {
    let csr = create_csr(&*Identity::key(), None).unwrap();
    let good = params("join_token", "unknown", &csr);
    let without = |change: fn(&mut Params)| {
        let mut params = good.clone();
        change(&mut params);
        params
    };
    for (what, params) in [
        ("an unknown token", good.clone()),
        ("no data", without(|params| params.data = None)),
        ("no params", without(|params| params.params = None)),
        (
            "no request",
            without(|params| params.params = Some(AgentX509svidParams::default())),
        ),
        (
            "no type",
            without(|params| params.data.as_mut().unwrap().r#type.clear()),
        ),
        (
            "no payload",
            without(|params| params.data.as_mut().unwrap().payload.clear()),
        ),
    ] {
        let refused = attest(home.tcp(None).await, params).await.unwrap_err();
        said.push((what, format!("{:?} {}", refused.code(), text(&refused))));
    }
    // Their texts name what each of the two knows.
    let unknown = attest(home.tcp(None).await, params("no_such_attestor", "x", &csr)).await;
    said.push(("an unknown attestor", outcome(unknown)));
}

fn params(kind: &str, payload: &str, csr: &[u8]) -> Params {
    Params {
        data: Some(types::AttestationData {
            r#type: kind.into(),
            payload: payload.into(),
        }),
        params: Some(AgentX509svidParams { csr: csr.into() }),
    }
}

async fn attest(channel: Channel, params: Params) -> Result<attest_agent_response::Result, Status> {
    let request = AttestAgentRequest {
        step: Some(Step::Params(params)),
    };
    let mut answers = AgentClient::new(channel)
        .attest_agent(tokio_stream::iter([request]))
        .await?
        .into_inner();
    match answers.message().await?.and_then(|answer| answer.step) {
        Some(attest_agent_response::Step::Result(result)) => {
            // The server ends the stream, and not by a failure.
            assert!(answers.message().await?.is_none());
            Ok(result)
        }
        other => panic!("neither an SVID nor a refusal: {other:?}"),
    }
}

async fn post(home: &Home, agent: &Identity) -> Result<(), Status> {
    let mut client = AgentClient::new(home.tcp(Some(agent)).await);
    let request = PostStatusRequest {
        agent_version: "1.15.3".into(),
        ..Default::default()
    };
    client.post_status(request).await.map(drop)
}

async fn renew(home: &Home, agent: &Identity) -> Result<Identity, Status> {
    let key = Identity::key();
    let csr = create_csr(&*key as &dyn Signer, None).unwrap();
    let request = RenewAgentRequest {
        params: Some(AgentX509svidParams { csr }),
    };
    let mut client = AgentClient::new(home.tcp(Some(agent)).await);
    let renewed = client.renew_agent(request).await.map(Response::into_inner)?;
    Ok(Identity {
        svid: parse(renewed.svid.unwrap()),
        key,
    })
}

fn parse(svid: types::X509svid) -> X509Svid {
    let chain = svid.cert_chain.into_iter();
    let chain = chain.map(|der| CertificateDer::from(der.to_vec()));
    X509Svid::parse(chain.collect()).unwrap()
}

/// What an agent can act on.
fn outcome<T>(result: Result<T, impl std::borrow::Borrow<Status>>) -> String {
    match result {
        Ok(_) => "done".into(),
        Err(status) => {
            let status = status.borrow();
            format!("{:?} {:?}", status.code(), denial_reason(status))
        }
    }
}

/// The message without the reference that ours ends with.
fn text(status: &Status) -> &str {
    let message = status.message();
    message
        .split_once(" (reference ")
        .map_or(message, |(text, _)| text)
}
