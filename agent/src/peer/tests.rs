use std::sync::Arc;
use std::time::Duration;

use muster_plugin_api::decorate::{Meter, Outcome};
use muster_plugin_api::fake::{FakeWorkloadAttestor, Mood};
use muster_plugin_api::{Gap, Hope, WorkloadAttestor};
use muster_transport::Refusal;

use super::fake::FakeWitness;
use super::*;

struct Unwatched;

impl Meter for Unwatched {
    fn attested(&self, _: &'static str, _: Outcome, _: Duration) {}
}

struct Node {
    one: Arc<FakeWorkloadAttestor>,
    two: Arc<FakeWorkloadAttestor>,
    attestors: Attestors,
}

fn answers(selectors: &[&str]) -> Mood {
    Mood::Answers(
        selectors.iter().map(|text| text.parse().unwrap()).collect(),
        Vec::new(),
    )
}

fn node() -> Node {
    let one = Arc::new(FakeWorkloadAttestor::new(&["one"], answers(&["one:a"])));
    let two = Arc::new(FakeWorkloadAttestor::new(&["two"], answers(&["two:b"])));
    let list: Vec<Arc<dyn WorkloadAttestor>> = vec![Arc::clone(&one) as _, Arc::clone(&two) as _];
    let meter: Arc<dyn Meter> = Arc::new(Unwatched);
    Node {
        one,
        two,
        attestors: Attestors::new(list, &meter),
    }
}

fn facts(caller: &AttestedCaller) -> Vec<String> {
    caller
        .facts()
        .iter()
        .map(|fact| fact.selector().to_string())
        .collect()
}

#[tokio::test]
async fn facts_of_all_attestors_come_together_and_are_kept_for_the_connection() {
    let (node, witness) = (node(), FakeWitness::new());
    let peer = Peer::new(witness.clone());
    for _ in 0..3 {
        let caller = node.attestors.attest(&peer).await.unwrap();
        assert_eq!(facts(&caller), ["one:a", "two:b"]);
        assert!(caller.gaps().is_empty() && caller.still().is_ok());
    }
    assert_eq!((node.one.asked(), node.two.asked(), witness.proofs()), (1, 1, 1));
}

#[tokio::test]
async fn a_caller_that_runs_another_program_is_measured_and_proven_anew() {
    let (node, witness) = (node(), FakeWitness::new());
    let peer = Peer::new(witness.clone());
    let before = node.attestors.attest(&peer).await.unwrap();
    witness.exec(2);
    assert!(before.still().is_err());
    node.one.set(answers(&["one:other"]));
    let after = node.attestors.attest(&peer).await.unwrap();
    assert_eq!(facts(&after), ["one:other", "two:b"]);
    assert_eq!((node.one.asked(), witness.proofs()), (2, 2));
    assert!(before.still().is_err() && after.still().is_ok());
}

#[tokio::test]
async fn a_caller_that_is_not_present_gets_nothing() {
    let (node, witness) = (node(), FakeWitness::new());
    witness.refuse(Refusal::OtherSender { pid: 4711, sender: 1 });
    let turned = node.attestors.attest(&Peer::new(witness)).await.unwrap_err();
    assert!(matches!(turned, Turned::Presence(Refusal::OtherSender { .. })));
}

#[tokio::test]
async fn a_failed_attestor_takes_away_its_own_facts_only() {
    const CALLERS: usize = 100;
    let node = node();
    node.two.set(Mood::Down);
    for _ in 0..CALLERS {
        let peer = Peer::new(FakeWitness::new());
        let caller = node.attestors.attest(&peer).await.unwrap();
        assert_eq!(facts(&caller), ["one:a"]);
        assert!(caller.may_yet_have(&"two:b".parse().unwrap()));
        assert!(!caller.may_yet_have(&"one:b".parse().unwrap()));
    }
    println!("figure: T-16: {CALLERS} callers while an attestor failed, 0 with a fact of its own kind");
}

#[tokio::test(start_paused = true)]
async fn an_attestor_that_recovers_is_asked_again_and_the_others_are_not() {
    let (node, witness) = (node(), FakeWitness::new());
    let peer = Peer::new(witness);
    node.two.set(Mood::Down);
    node.attestors.attest(&peer).await.unwrap();
    node.attestors.attest(&peer).await.unwrap();
    assert_eq!(node.two.asked(), 1, "not at every call");
    node.two.set(answers(&["two:b"]));
    tokio::time::advance(Duration::from_secs(3)).await;
    let caller = node.attestors.attest(&peer).await.unwrap();
    assert_eq!(facts(&caller), ["one:a", "two:b"]);
    assert_eq!((node.one.asked(), node.two.asked()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn facts_under_unchanged_evidence_outlive_their_attestor() {
    let (node, witness) = (node(), FakeWitness::new());
    let peer = Peer::new(witness);
    let gap = Gap::new("two", "c", Hope::MayHeal, "slow");
    node.two
        .set(Mood::Answers(vec!["two:b".parse().unwrap()], vec![gap]));
    node.attestors.attest(&peer).await.unwrap();
    node.two.set(Mood::Down);
    tokio::time::advance(Duration::from_secs(3)).await;
    let caller = node.attestors.attest(&peer).await.unwrap();
    assert_eq!(node.two.asked(), 2);
    assert_eq!(facts(&caller), ["one:a", "two:b"]);
    assert!(caller.may_yet_have(&"two:cc".parse().unwrap()));
}

#[tokio::test]
async fn an_attestor_that_refuses_decides_for_all() {
    let (node, witness) = (node(), FakeWitness::new());
    node.two.set(Mood::Refuses);
    let turned = node.attestors.attest(&Peer::new(witness)).await.unwrap_err();
    assert!(matches!(turned, Turned::Refused { attestor: "fake", .. }));
}

#[tokio::test(start_paused = true)]
async fn an_attestor_that_hangs_holds_a_caller_up_for_its_deadline_only() {
    let (node, witness) = (node(), FakeWitness::new());
    node.two.set(Mood::Hangs);
    let caller = node.attestors.attest(&Peer::new(witness)).await.unwrap();
    assert_eq!(facts(&caller), ["one:a"]);
}
