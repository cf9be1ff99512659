//! Callers that are not there, end or become another program.

use muster_plugin_api::WorkloadAttestor;
use muster_workload_attestors::{Cgroup, Unix, UnixSettings};

use super::*;
use crate::peer::Watch;

/// A client that is a made-up process.
fn client_as(
    agent: &Agent,
    witness: &FakeWitness,
) -> SpiffeWorkloadApiClient<InterceptedService<WorkloadApi, impl tonic::service::Interceptor + use<>>> {
    client_of(agent, Peer::new(witness.clone()))
}

fn client_of(
    agent: &Agent,
    peer: Peer,
) -> SpiffeWorkloadApiClient<InterceptedService<WorkloadApi, impl tonic::service::Interceptor + use<>>> {
    SpiffeWorkloadApiClient::with_interceptor(agent.api.clone(), move |mut request: Request<()>| {
        request.extensions_mut().insert(peer.clone());
        Ok(request)
    })
}

#[tokio::test]
async fn a_caller_that_runs_another_program_gets_no_further_message() {
    let agent = Setup::with(one_identity()).start();
    let witness = FakeWitness::new();
    let mut client = client_as(&agent, &witness);
    let mut stream = client
        .fetch_x509svid(request(pb::X509svidRequest {}))
        .await
        .unwrap()
        .into_inner();
    stream.message().await.unwrap().unwrap();
    witness.exec(2);
    agent.show(view(
        vec![identity("e1", "spiffe://example.org/a", Some(held(b"new")))],
        &own(),
    ));
    assert_eq!(stream.message().await.unwrap_err().code(), Code::PermissionDenied);
    assert!(stream.message().await.unwrap().is_none());
    assert_eq!(agent.recorded("caller.refuse"), 1);
}

#[tokio::test]
async fn a_quiet_stream_notices_that_its_caller_is_another_program() {
    let agent = Setup::with(one_identity()).start();
    let (witness, watch) = (FakeWitness::new(), Watch::default());
    let peer = Peer::new(witness.clone());
    watch.add(&peer);
    let mut client = client_of(&agent, peer);
    let mut stream = client
        .fetch_x509svid(request(pb::X509svidRequest {}))
        .await
        .unwrap()
        .into_inner();
    stream.message().await.unwrap().unwrap();
    tokio::time::pause();
    witness.exec(2);
    let status = tokio::select! {
        () = watch.keep() => unreachable!("it looks for ever"),
        message = stream.message() => message.unwrap_err(),
    };
    assert_eq!(status.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_caller_that_became_another_program_is_attested_anew_at_its_next_call() {
    let agent = Setup::with(one_identity()).start();
    let witness = FakeWitness::new();
    let mut client = client_as(&agent, &witness);
    for program in 2..5 {
        let mut stream = client
            .fetch_x509svid(request(pb::X509svidRequest {}))
            .await
            .unwrap()
            .into_inner();
        assert_eq!(stream.message().await.unwrap().unwrap().svids.len(), 1);
        witness.exec(program);
    }
    assert_eq!((agent.attestor.asked(), witness.proofs()), (3, 3));
    // Also when what it was had no identity: it is not judged by what it was.
    agent.show(view(Vec::new(), &own()));
    let status = client
        .fetch_x509svid(request(pb::X509svidRequest {}))
        .await
        .unwrap_err();
    assert_eq!(
        (status.code(), agent.attestor.asked()),
        (Code::PermissionDenied, 4)
    );
}

#[tokio::test]
async fn a_stream_ends_with_its_process() {
    let agent = Setup::with(one_identity()).start();
    let witness = FakeWitness::new();
    let mut client = client_as(&agent, &witness);
    let mut stream = client
        .fetch_x509svid(request(pb::X509svidRequest {}))
        .await
        .unwrap()
        .into_inner();
    stream.message().await.unwrap().unwrap();
    witness.end();
    assert!(stream.message().await.unwrap().is_none());
}

#[tokio::test]
async fn a_caller_that_is_not_present_gets_nothing() {
    let agent = Setup::with(one_identity()).start();
    for (refusal, code) in [
        (Refusal::Silent { pid: 4711 }, Code::Unavailable),
        (
            Refusal::OtherSender { pid: 4711, sender: 1 },
            Code::PermissionDenied,
        ),
        (
            Refusal::Unmapped {
                pid: 4711,
                uid: 65_534,
            },
            Code::PermissionDenied,
        ),
    ] {
        let witness = FakeWitness::new();
        witness.refuse(refusal);
        let mut client = client_as(&agent, &witness);
        let status = client
            .fetch_x509svid(request(pb::X509svidRequest {}))
            .await
            .unwrap_err();
        assert_eq!(status.code(), code);
        assert!(!status.message().contains("4711"), "{}", status.message());
    }
    assert_eq!(agent.recorded("caller.refuse"), 2);
}

#[tokio::test]
async fn the_facts_of_a_real_process_are_those_of_the_caller() {
    let unix = Unix::new(UnixSettings::complete()).unwrap();
    let attestors: Vec<Arc<dyn WorkloadAttestor>> = vec![Arc::new(unix), Arc::new(Cgroup::new())];
    let agent = Setup {
        attestors,
        ..Setup::with(one_identity())
    }
    .start();
    x509(&mut agent.client().await)
        .await
        .unwrap()
        .message()
        .await
        .unwrap()
        .unwrap();
    let facts = agent.identities.asked_for.lock().unwrap().clone();
    let has = |text: String| facts.selectors().contains(&text.parse().unwrap());
    let program = std::fs::read_link("/proc/self/exe").unwrap();
    assert!(has(format!("unix:path:{}", program.display())), "{facts:?}");
    assert!(has(format!("unix:uid:{}", nix::unistd::getuid())) && has("one:a".to_owned()));
    assert!(
        facts
            .iter()
            .any(|fact| fact.selector().as_str().starts_with("unix:sha256:"))
    );
}
