//! The bounds of a conversation with a node that has not proved itself yet.

use std::time::Duration;

use async_trait::async_trait;
use muster_identity::IdPath;

use crate::{Moment, NodeChallenge, NodeStep, NodeVerifier, NodeVerifyError, Shown};

/// The longest first message: a chain of 64 KiB in base64, or a token, with what stands around it.
pub const MAX_NODE_PAYLOAD: usize = 128 * 1024;
/// The longest challenge, and the longest answer to one.
pub const MAX_NODE_ANSWER: usize = 16 * 1024;
/// The most challenges of one attestation. The kinds that we know have one.
pub const MAX_CHALLENGES: usize = 8;
/// How long judging one message may take. It covers a cluster's API server that has to be asked three times.
pub const JUDGED_WITHIN: Duration = Duration::from_secs(15);

/// Holds a node verifier to the bounds of messages, rounds and time, and its nodes to names that are not another kind's.
pub struct Bounded<V>(V);

struct BoundedChallenge {
    kind: &'static str,
    posed: usize,
    pending: Box<dyn NodeChallenge>,
}

impl<V> Bounded<V> {
    /// `verifier`, held to the bounds.
    pub fn new(verifier: V) -> Self {
        Self(verifier)
    }
}

#[async_trait]
impl<V: NodeVerifier> NodeVerifier for Bounded<V> {
    fn kind(&self) -> &'static str {
        self.0.kind()
    }

    fn takes_svid(&self, path: &IdPath) -> bool {
        self.0.takes_svid(path)
    }

    async fn begin(&self, shown: Shown) -> Result<NodeStep, NodeVerifyError> {
        if shown.payload.len() > MAX_NODE_PAYLOAD {
            let text = format!(
                "the payload has {} bytes, at most {MAX_NODE_PAYLOAD} are taken",
                shown.payload.len()
            );
            return Err(NodeVerifyError::Malformed(text));
        }
        let step = in_time(self.0.begin(shown)).await?;
        bounded(self.kind(), 1, step)
    }
}

#[async_trait]
impl NodeChallenge for BoundedChallenge {
    async fn judge(self: Box<Self>, answer: Vec<u8>, moment: Moment) -> Result<NodeStep, NodeVerifyError> {
        if answer.len() > MAX_NODE_ANSWER {
            let text = format!(
                "the answer has {} bytes, at most {MAX_NODE_ANSWER} are taken",
                answer.len()
            );
            return Err(NodeVerifyError::Malformed(text));
        }
        let step = in_time(self.pending.judge(answer, moment)).await?;
        bounded(self.kind, self.posed + 1, step)
    }
}

async fn in_time(
    judging: impl Future<Output = Result<NodeStep, NodeVerifyError>>,
) -> Result<NodeStep, NodeVerifyError> {
    match tokio::time::timeout(JUDGED_WITHIN, judging).await {
        Ok(judged) => judged,
        Err(late) => Err(NodeVerifyError::unavailable("judging what the node showed", late)),
    }
}

/// The step, whose challenge would be the one with the number `posed`.
fn bounded(kind: &'static str, posed: usize, step: NodeStep) -> Result<NodeStep, NodeVerifyError> {
    match step {
        NodeStep::Challenge { challenge, pending } => {
            if posed > MAX_CHALLENGES || challenge.len() > MAX_NODE_ANSWER {
                return Err(NodeVerifyError::Denied(format!(
                    "{kind} asks more than a node may be asked"
                )));
            }
            let pending = Box::new(BoundedChallenge { kind, posed, pending });
            Ok(NodeStep::Challenge { challenge, pending })
        }
        NodeStep::Attested(node) => {
            let first = node.path().first_segment();
            if first != kind && crate::NODE_KINDS.contains(&first) {
                return Err(NodeVerifyError::Denied(format!(
                    "{kind} names a node that only {first} may name"
                )));
            }
            Ok(NodeStep::Attested(node))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{FakeNodeVerifier, shown};
    use crate::{AttestedNode, NodePath, Reattestation};

    struct Names(&'static str);

    #[async_trait]
    impl NodeVerifier for Names {
        fn kind(&self) -> &'static str {
            "fake"
        }

        fn takes_svid(&self, _: &IdPath) -> bool {
            false
        }

        async fn begin(&self, _: Shown) -> Result<NodeStep, NodeVerifyError> {
            let path = NodePath::parse(self.0).unwrap();
            Ok(NodeStep::Attested(AttestedNode::new(
                "fake",
                path,
                [],
                Reattestation::Once,
            )))
        }
    }

    #[tokio::test]
    async fn messages_and_rounds_have_their_bound() {
        let verifier = Bounded::new(FakeNodeVerifier::new(*b"proof").challenges(MAX_CHALLENGES + 1));
        let long = verifier.begin(shown(vec![0; MAX_NODE_PAYLOAD + 1])).await;
        assert!(matches!(long, Err(NodeVerifyError::Malformed(_))));
        let mut step = verifier.begin(shown(*b"proof")).await.unwrap();
        for _ in 1..MAX_CHALLENGES {
            let NodeStep::Challenge { challenge, pending } = step else {
                panic!("{step:?}");
            };
            step = pending
                .judge(challenge.into_iter().rev().collect(), shown([]).moment)
                .await
                .unwrap();
        }
        let NodeStep::Challenge { challenge, pending } = step else {
            panic!("{step:?}");
        };
        let last = pending
            .judge(challenge.into_iter().rev().collect(), shown([]).moment)
            .await;
        assert!(matches!(last, Err(NodeVerifyError::Denied(_))), "{last:?}");
        let NodeStep::Challenge { pending, .. } = verifier.begin(shown(*b"proof")).await.unwrap() else {
            panic!("no challenge");
        };
        let long = pending
            .judge(vec![0; MAX_NODE_ANSWER + 1], shown([]).moment)
            .await;
        assert!(matches!(long, Err(NodeVerifyError::Malformed(_))));
    }

    #[test]
    fn what_names_nodes_is_passed_on() {
        let verifier = Bounded::new(FakeNodeVerifier::new(*b"proof").svids_below("/nodes".parse().unwrap()));
        assert!(verifier.takes_svid(&"/nodes/a".parse().unwrap()));
        assert!(!verifier.takes_svid(&"/nodesa".parse().unwrap()));
    }

    #[tokio::test]
    async fn no_kind_names_the_nodes_of_another() {
        let named = async |path| Bounded::new(Names(path)).begin(shown(*b"x")).await.is_ok();
        assert!(named("/fake/a").await && named("/cn/a").await);
        assert!(!named("/join_token/a").await && !named("/k8s_psat/a").await);
    }
}
