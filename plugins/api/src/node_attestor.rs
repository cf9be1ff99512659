//! What proves this machine to the server: the agent's half.

use std::fmt;

use async_trait::async_trait;
use muster_pki::SecretBytes;

/// Proves this machine to the server, in the protocol of its kind.
#[async_trait]
pub trait NodeAttestor: Send + Sync {
    /// The attestation type on the wire, such as `join_token`.
    fn kind(&self) -> &'static str;

    /// Whether the same proof can be given again after the node's certificate has expired.
    fn reattestation(&self) -> Reattestation;

    /// Begins one attestation. Nothing is used up until the server has seen the payload.
    async fn begin(&self) -> Result<Box<dyn NodeProof>, NodeAttestError>;
}

impl fmt::Debug for dyn NodeAttestor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeAttestor({})", self.kind())
    }
}

/// One attestation under way.
#[async_trait]
pub trait NodeProof: Send {
    /// What the first message carries. It may be a secret (a join token), so it is treated as one.
    fn payload(&self) -> &SecretBytes;

    /// Answers a challenge of the server. The default is for kinds that have none.
    async fn answer(&mut self, _challenge: &[u8]) -> Result<Vec<u8>, NodeAttestError> {
        Err(NodeAttestError::Unexpected(
            "a challenge, and this kind of attestation has none".to_owned(),
        ))
    }
}

/// Whether a node can prove itself again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reattestation {
    /// The proof lasts (a TPM, a cloud document).
    Possible,
    /// The proof was used up (a join token).
    Once,
}

/// Why a node can't prove itself.
#[derive(Debug, thiserror::Error)]
pub enum NodeAttestError {
    /// There is nothing to prove it with; an operator must act.
    #[error("{0}")]
    Missing(String),
    /// The server sent what this kind does not know.
    #[error("the server sent {0}")]
    Unexpected(String),
    /// What holds the proof failed.
    #[error("{what}")]
    Failed {
        /// What was being done.
        what: String,
        /// Why that failed.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
