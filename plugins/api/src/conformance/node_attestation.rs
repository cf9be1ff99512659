//! The promises of both halves of a node attestation, made to each other.

use super::node_attestor;
use crate::{AttestedNode, NodeAttestor, NodeStep, NodeVerifier, NodeVerifyError, Reattestation, Shown};

/// No kind needs more to come to an end.
const ROUNDS: usize = 16;

/// Lets `attestor` prove itself to `verifier`, which must take it, and then tries what must not be taken. `at` says where and
/// when; its payload is not used.
///
/// # Panics
/// If a promise of [`NodeAttestor`] or [`NodeVerifier`] is broken.
pub async fn node_attestation(attestor: &dyn NodeAttestor, verifier: &dyn NodeVerifier, at: &Shown) {
    node_attestor(attestor).await;
    assert_eq!(attestor.kind(), verifier.kind(), "both halves are of one kind");
    let (node, answers) = attested(attestor, verifier, at).await;
    let own = node
        .selectors()
        .iter()
        .all(|selector| selector.kind() == verifier.kind());
    assert!(own, "selectors are of the kind's own type: {node:?}");
    if node.reattestation() == Reattestation::Possible {
        let (again, fresh) = attested(attestor, verifier, at).await;
        assert_eq!(node, again, "the same proof is the same node");
        let repeated = answers.iter().find(|answer| fresh.contains(answer));
        assert_eq!(repeated, None, "no answer is given twice");
    }
    nothing_else_is_taken(attestor, verifier, at).await;
    if !answers.is_empty() {
        wrong_answers_are_refused(attestor, verifier, at, &answers).await;
    }
}

async fn attested(
    attestor: &dyn NodeAttestor,
    verifier: &dyn NodeVerifier,
    at: &Shown,
) -> (AttestedNode, Vec<Vec<u8>>) {
    let mut proof = attestor
        .begin()
        .await
        .expect("there is something to prove the node with");
    let shown = with(at, proof.payload().expose_secret());
    let mut step = verifier.begin(shown).await.expect("the payload is taken");
    let mut answers = Vec::new();
    for _ in 0..ROUNDS {
        match step {
            NodeStep::Attested(node) => return (node, answers),
            NodeStep::Challenge { challenge, pending } => {
                let answer = proof.answer(&challenge).await.expect("the challenge is answered");
                answers.push(answer.clone());
                let judged = pending.judge(answer, at.moment.clone()).await;
                step = judged.expect("the answer is taken");
            }
        }
    }
    panic!("an attestation comes to an end");
}

async fn nothing_else_is_taken(attestor: &dyn NodeAttestor, verifier: &dyn NodeVerifier, at: &Shown) {
    let proof = attestor.begin().await.expect("a proof");
    let payload = proof.payload().expose_secret();
    let cut = &payload[..payload.len() / 2];
    for wrong in [&b""[..], b"{}", b"null", b"[]", b"\xff\xfe", cut] {
        let refused = verifier.begin(with(at, wrong)).await;
        let said = matches!(
            refused,
            Err(NodeVerifyError::Malformed(_) | NodeVerifyError::Denied(_))
        );
        assert!(
            said,
            "{:?} is no proof, but: {refused:?}",
            String::from_utf8_lossy(wrong)
        );
    }
}

async fn wrong_answers_are_refused(
    attestor: &dyn NodeAttestor,
    verifier: &dyn NodeVerifier,
    at: &Shown,
    earlier: &[Vec<u8>],
) {
    let fixed = [
        Vec::new(),
        b"{}".to_vec(),
        b"null".to_vec(),
        vec![0xff; 64],
        vec![b'['; 10_000],
    ];
    for wrong in fixed.iter().chain(earlier) {
        let proof = attestor.begin().await.expect("a proof");
        let step = verifier.begin(with(at, proof.payload().expose_secret())).await;
        let Ok(NodeStep::Challenge { pending, .. }) = step else {
            panic!("there was a challenge before, but: {step:?}");
        };
        let refused = pending.judge(wrong.clone(), at.moment.clone()).await;
        let said = matches!(
            refused,
            Err(NodeVerifyError::Malformed(_) | NodeVerifyError::Denied(_))
        );
        assert!(
            said,
            "{:?} is no answer, but: {refused:?}",
            String::from_utf8_lossy(wrong)
        );
    }
}

fn with(at: &Shown, payload: &[u8]) -> Shown {
    Shown {
        payload: payload.to_vec().into(),
        ..at.clone()
    }
}
