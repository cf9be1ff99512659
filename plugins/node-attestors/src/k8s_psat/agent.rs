//! The agent's half.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use muster_pki::SecretBytes;
use muster_plugin_api::{NodeAttestError, NodeAttestor, NodeProof, Reattestation};
use zeroize::Zeroizing;

use super::KIND;
use super::wire::Payload;
use crate::file;

/// Where SPIRE's manifests project the token.
pub const TOKEN_PATH: &str = "/var/run/secrets/tokens/spire-agent";
/// More than any token has.
const MOST: usize = 32 * 1024;

/// Where the pod's token is. The kubelet writes a new one long before the old one ends, so it is read at each attestation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct K8sPsatToken {
    /// What the server calls the cluster.
    pub cluster: String,
    /// The file.
    pub token_path: PathBuf,
}

/// Proves the node by the token of the agent's pod.
#[derive(Debug)]
pub struct K8sPsatAttestor {
    token: K8sPsatToken,
}

#[derive(Debug)]
struct Proof {
    payload: SecretBytes,
}

impl K8sPsatAttestor {
    /// An attestor that reads this token.
    pub fn new(token: K8sPsatToken) -> Self {
        Self { token }
    }
}

#[async_trait]
impl NodeAttestor for K8sPsatAttestor {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn reattestation(&self) -> Reattestation {
        Reattestation::Possible
    }

    async fn begin(&self) -> Result<Box<dyn NodeProof>, NodeAttestError> {
        let K8sPsatToken { cluster, token_path } = self.token.clone();
        let read = tokio::task::spawn_blocking(move || payload(&cluster, &token_path)).await;
        let payload = read.map_err(|source| NodeAttestError::Failed {
            what: "reading the pod's token".to_owned(),
            source: source.into(),
        })?;
        Ok(Box::new(Proof {
            payload: payload?.to_bytes(),
        }))
    }
}

impl NodeProof for Proof {
    fn payload(&self) -> &SecretBytes {
        &self.payload
    }
}

fn payload(cluster: &str, path: &Path) -> Result<Payload, NodeAttestError> {
    let missing = |error: &dyn std::fmt::Display| {
        NodeAttestError::Missing(format!("the pod's token {}: {error}", path.display()))
    };
    let content = Zeroizing::new(file::read(path, MOST).map_err(|error| missing(&error))?);
    let text = std::str::from_utf8(&content).map_err(|_| missing(&"it is no text"))?;
    Payload::new(cluster, text.trim()).map_err(|error| missing(&error))
}
