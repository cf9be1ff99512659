//! The server's half of the fake node attestor.

use std::sync::Arc;

use async_trait::async_trait;
use muster_identity::{IdPath, UnixTime};
use muster_pki::bundle::Bundle;

use crate::{
    AttestedNode, Moment, NodeChallenge, NodePath, NodeStep, NodeVerifier, NodeVerifyError, Reattestation,
    Shown,
};

/// Takes one payload, poses challenges, and wants each back backwards.
#[derive(Clone, Debug)]
pub struct FakeNodeVerifier {
    payload: Vec<u8>,
    path: NodePath,
    values: Vec<String>,
    challenges: usize,
    reattestation: Reattestation,
    svids_below: Option<IdPath>,
}

struct FakeChallenge {
    verifier: FakeNodeVerifier,
    posed: Vec<u8>,
}

impl FakeNodeVerifier {
    /// A verifier of kind `fake` that takes this payload, after one challenge, as the node `/fake/node`.
    pub fn new(payload: impl Into<Vec<u8>>) -> Self {
        Self {
            payload: payload.into(),
            path: NodePath::parse("/fake/node").expect("a path"),
            values: vec!["is:fake".to_owned()],
            challenges: 1,
            reattestation: Reattestation::Possible,
            svids_below: None,
        }
    }

    /// Another number of challenges.
    #[must_use]
    pub fn challenges(mut self, challenges: usize) -> Self {
        self.challenges = challenges;
        self
    }

    /// Whether its nodes can prove themselves again.
    #[must_use]
    pub fn reattestation(mut self, reattestation: Reattestation) -> Self {
        self.reattestation = reattestation;
        self
    }

    /// Other selectors.
    #[must_use]
    pub fn values(mut self, values: &[&str]) -> Self {
        self.values = values.iter().map(|value| (*value).to_owned()).collect();
        self
    }

    /// Says that it takes SVIDs whose paths lie below this one.
    #[must_use]
    pub fn svids_below(mut self, path: IdPath) -> Self {
        self.svids_below = Some(path);
        self
    }

    fn step(mut self) -> Result<NodeStep, NodeVerifyError> {
        if self.challenges == 0 {
            let node = AttestedNode::new("fake", self.path, self.values, self.reattestation);
            return Ok(NodeStep::Attested(node));
        }
        self.challenges -= 1;
        let mut posed = vec![0; 16];
        aws_lc_rs::rand::fill(&mut posed)
            .map_err(|error| NodeVerifyError::unavailable("randomness", error))?;
        let challenge = posed.clone();
        let pending = Box::new(FakeChallenge {
            verifier: self,
            posed,
        });
        Ok(NodeStep::Challenge { challenge, pending })
    }
}

#[async_trait]
impl NodeVerifier for FakeNodeVerifier {
    fn kind(&self) -> &'static str {
        "fake"
    }

    fn takes_svid(&self, path: &IdPath) -> bool {
        self.svids_below
            .as_ref()
            .is_some_and(|below| path.is_under(below))
    }

    async fn begin(&self, shown: Shown) -> Result<NodeStep, NodeVerifyError> {
        if shown.payload.expose_secret() != self.payload {
            return Err(NodeVerifyError::Denied("another payload".to_owned()));
        }
        self.clone().step()
    }
}

#[async_trait]
impl NodeChallenge for FakeChallenge {
    async fn judge(self: Box<Self>, answer: Vec<u8>, _: Moment) -> Result<NodeStep, NodeVerifyError> {
        if !answer.iter().rev().eq(&self.posed) {
            return Err(NodeVerifyError::Denied("not the challenge backwards".to_owned()));
        }
        self.verifier.step()
    }
}

/// What a node shows by `payload` to a server of `example.org` that has an empty bundle, at the beginning of time.
pub fn shown(payload: impl Into<Vec<u8>>) -> Shown {
    let trust_domain = "example.org".parse().expect("a trust domain");
    Shown {
        payload: payload.into().into(),
        peer: None,
        moment: Moment {
            bundle: Arc::new(Bundle::new(trust_domain)),
            now: UnixTime::EPOCH,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance;
    use crate::decorate::Bounded;
    use crate::fake::FakeNodeAttestor;

    #[tokio::test]
    async fn the_fakes_keep_the_promises_of_both_halves() {
        for challenges in [0, 1, 3] {
            let attestor = FakeNodeAttestor::new(*b"proof", Reattestation::Possible);
            let verifier = Bounded::new(FakeNodeVerifier::new(*b"proof").challenges(challenges));
            conformance::node_attestation(&attestor, &verifier, &shown(*b"")).await;
        }
    }
}
