//! Attestation by a token that Kubernetes projected into the agent's pod.
//!
//! ```text
//! agent ─cluster, token→ server ─TokenReview, pod, node→ the cluster's API server
//! ```
//!
//! Messages, selectors and names are SPIRE's. The server believes the cluster's API server alone, and checks that what it says of token,
//! pod and node belongs together: a pod that was made anew under the same name is another one. A token counts for as long as Kubernetes
//! says, for anybody who has it: it goes to a server that has proved itself and nowhere else.

#[cfg(feature = "agent")]
mod agent;
#[cfg(feature = "server")]
mod api_server;
#[cfg(feature = "server")]
mod cluster;
#[cfg(feature = "server")]
mod kube_config;
#[cfg(feature = "server")]
mod objects;
#[cfg(feature = "server")]
mod server;
mod wire;

#[cfg(feature = "agent")]
pub use agent::{K8sPsatAttestor, K8sPsatToken, TOKEN_PATH};
#[cfg(feature = "server")]
pub use cluster::{ClusterAccess, ClusterSettings};
#[cfg(feature = "server")]
pub use kube_config::{KubeConfigError, is_kube_config};
#[cfg(feature = "server")]
pub use server::{K8sPsatVerifier, StartK8sPsatError};
pub use wire::{Payload, PayloadError};

/// The attestation type on the wire.
pub const KIND: &str = "k8s_psat";
