//! How this node proves itself, beside a join token: the one place that knows the kinds.

use std::sync::Arc;

use muster_node_attestors::k8s_psat::{K8sPsatAttestor, K8sPsatToken};
use muster_node_attestors::x509pop::{X509popAttestor, X509popFiles};
use muster_plugin_api::NodeAttestor;

/// How this node proves itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NodeAttestorConfig {
    /// By a certificate of another PKI.
    X509pop(X509popFiles),
    /// By the token that Kubernetes projected into the agent's pod.
    K8sPsat(K8sPsatToken),
}

impl NodeAttestorConfig {
    /// The attestor. Nothing is read before it is used.
    pub fn attestor(&self) -> Arc<dyn NodeAttestor> {
        match self {
            Self::X509pop(files) => Arc::new(X509popAttestor::new(files.clone())),
            Self::K8sPsat(token) => Arc::new(K8sPsatAttestor::new(token.clone())),
        }
    }
}
