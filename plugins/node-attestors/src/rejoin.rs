//! Attestation by the key of the node's last certificate.

use async_trait::async_trait;
use muster_identity::SpiffeId;
use muster_pki::SecretBytes;
use muster_plugin_api::{NodeAttestError, NodeAttestor, NodeProof, Reattestation};

/// Proves a node whose certificate ended while it was cut off.
///
/// The payload only names the node. The proof is the signature on the certificate request: it is made by the key that the server bound to this node when it last
/// signed for it. Somebody who replays the request gets a certificate for a key that he does not have.
#[derive(Debug)]
pub struct RejoinAttestor {
    id: SpiffeId,
}

#[derive(Debug)]
struct Proof {
    payload: SecretBytes,
}

impl RejoinAttestor {
    /// The attestation type on the wire.
    pub const KIND: &'static str = "rejoin";

    /// The attestor of the node with this identity.
    pub fn new(id: SpiffeId) -> Self {
        Self { id }
    }
}

#[async_trait]
impl NodeAttestor for RejoinAttestor {
    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn reattestation(&self) -> Reattestation {
        Reattestation::Possible
    }

    async fn begin(&self) -> Result<Box<dyn NodeProof>, NodeAttestError> {
        Ok(Box::new(Proof {
            payload: SecretBytes::new(self.id.to_string().into_bytes()),
        }))
    }
}

impl NodeProof for Proof {
    fn payload(&self) -> &SecretBytes {
        &self.payload
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_attestor_keeps_the_contract_of_its_kind() {
        let id = "spiffe://example.org/spire/agent/join_token/abc".parse().unwrap();
        muster_plugin_api::conformance::node_attestor(&RejoinAttestor::new(id)).await;
    }
}
