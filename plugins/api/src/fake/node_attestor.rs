//! A node attestor with a fixed payload.

use async_trait::async_trait;
use muster_pki::SecretBytes;

use crate::{NodeAttestError, NodeAttestor, NodeProof, Reattestation};

/// Proves itself by a fixed payload and answers each challenge with the challenge backwards.
#[derive(Clone, Debug)]
pub struct FakeNodeAttestor {
    payload: Vec<u8>,
    reattestation: Reattestation,
}

impl FakeNodeAttestor {
    /// A node attestor of kind `fake`.
    pub fn new(payload: impl Into<Vec<u8>>, reattestation: Reattestation) -> Self {
        Self {
            payload: payload.into(),
            reattestation,
        }
    }
}

#[async_trait]
impl NodeAttestor for FakeNodeAttestor {
    fn kind(&self) -> &'static str {
        "fake"
    }

    fn reattestation(&self) -> Reattestation {
        self.reattestation
    }

    async fn begin(&self) -> Result<Box<dyn NodeProof>, NodeAttestError> {
        if self.payload.is_empty() {
            return Err(NodeAttestError::Missing("the fake has no payload".to_owned()));
        }
        Ok(Box::new(FakeProof(SecretBytes::from(self.payload.clone()))))
    }
}

struct FakeProof(SecretBytes);

#[async_trait]
impl NodeProof for FakeProof {
    fn payload(&self) -> &SecretBytes {
        &self.0
    }

    async fn answer(&mut self, challenge: &[u8]) -> Result<Vec<u8>, NodeAttestError> {
        Ok(challenge.iter().rev().copied().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance;

    #[tokio::test]
    async fn the_fake_keeps_the_promises_of_a_node_attestor() {
        conformance::node_attestor(&FakeNodeAttestor::new(*b"proof", Reattestation::Once)).await;
    }
}
