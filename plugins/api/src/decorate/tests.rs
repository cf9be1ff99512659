use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;
use crate::fake::{FakeCaller, FakeWorkloadAttestor, Mood};
use crate::{AttestError, Gap, Hope, WorkloadAttestor};

const NOW: Duration = Duration::ZERO;

fn selectors(texts: &[&str]) -> Vec<muster_identity::Selector> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn attestor(mood: Mood) -> Arc<FakeWorkloadAttestor> {
    Arc::new(FakeWorkloadAttestor::new(&["fake"], mood))
}

fn caller() -> (tempfile::TempDir, FakeCaller) {
    let folder = tempfile::tempdir().unwrap();
    let fake = FakeCaller::new(folder.path()).build().unwrap();
    (folder, fake)
}

#[tokio::test]
async fn an_attestor_that_hangs_is_cut_off() {
    let (_folder, fake) = caller();
    let answer = Timed::new(attestor(Mood::Hangs), NOW).attest(fake.caller()).await;
    assert!(matches!(answer, Err(AttestError::Slow(NOW))));
}

#[tokio::test]
async fn facts_of_other_types_are_dropped() {
    let (_folder, fake) = caller();
    let mood = Mood::Answers(selectors(&["fake:a", "unix:uid:0"]), Vec::new());
    let attestation = Confined::new(attestor(mood)).attest(fake.caller()).await.unwrap();
    assert_eq!(
        attestation.facts.selectors(),
        &selectors(&["fake:a"]).into_iter().collect()
    );
}

#[tokio::test]
async fn facts_beyond_the_bound_are_dropped() {
    let (_folder, fake) = caller();
    let many = (0..MAX_FACTS + 5)
        .map(|n| format!("fake:{n}").parse().unwrap())
        .collect();
    let attestation = Confined::new(attestor(Mood::Answers(many, Vec::new())))
        .attest(fake.caller())
        .await
        .unwrap();
    assert_eq!(attestation.facts.iter().count(), MAX_FACTS);
}

#[derive(Default)]
struct Seen(Mutex<Vec<(&'static str, Outcome)>>);

impl Meter for Seen {
    fn attested(&self, attestor: &'static str, outcome: Outcome, _took: Duration) {
        self.0.lock().unwrap().push((attestor, outcome));
    }
}

#[tokio::test]
async fn the_meter_is_told_how_each_attestation_ended() {
    let (_folder, fake) = caller();
    let seen = Arc::new(Seen::default());
    let attestor = attestor(Mood::Down);
    let measured = Measured::new(Timed::new(Arc::clone(&attestor), NOW), Arc::<Seen>::clone(&seen));
    let gap = Gap::of_type("fake", Hope::Final, "told so");
    let moods = [
        Mood::Answers(Vec::new(), Vec::new()),
        Mood::Answers(Vec::new(), vec![gap]),
        Mood::Refuses,
        Mood::Hangs,
        Mood::Down,
    ];
    for mood in moods {
        attestor.set(mood);
        measured.attest(fake.caller()).await.ok();
    }
    let outcomes: Vec<_> = seen
        .0
        .lock()
        .unwrap()
        .iter()
        .map(|(_, outcome)| *outcome)
        .collect();
    assert_eq!(
        outcomes,
        [
            Outcome::Complete,
            Outcome::Gaps,
            Outcome::Refused,
            Outcome::Slow,
            Outcome::Failed
        ]
    );
}
