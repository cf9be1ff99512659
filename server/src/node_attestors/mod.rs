//! The kinds of node attestation that this server takes beside join tokens: none, one or more of them, by configuration.

use std::net::IpAddr;
use std::sync::Arc;

use muster_identity::{IdPath, TrustDomain};
use muster_node_attestors::k8s_psat::{ClusterSettings, K8sPsatVerifier, StartK8sPsatError};
use muster_node_attestors::x509pop::{StartX509popError, X509popSettings, X509popVerifier};
use muster_plugin_api::NodeVerifier;
use muster_plugin_api::decorate::Bounded;

use crate::admission::{Admission, Full, Ticket};

/// How many attestations may be under way: each may hold a payload, a chain and a stream of somebody who has proved nothing.
const AT_ONCE: usize = 256;
/// How many of one address. Nodes behind a translated network share one; each needs a place for a moment, and one that is silent keeps its place for 30 s.
const AT_ONCE_PER_ADDRESS: usize = 32;

/// What is configured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeAttestorsConfig {
    /// By certificates of another PKI, or SVIDs of our own.
    pub x509pop: Option<X509popSettings>,
    /// By tokens of these Kubernetes clusters.
    pub k8s_psat: Option<Vec<ClusterSettings>>,
}

/// The verifiers, each held to its bounds. Clones share them.
#[derive(Clone)]
pub struct NodeAttestors {
    verifiers: Arc<[Arc<dyn NodeVerifier>]>,
    room: Admission,
}

/// Why a verifier can't begin.
#[derive(Debug, thiserror::Error)]
pub enum StartNodeAttestorError {
    /// The one by certificates.
    #[error(transparent)]
    X509pop(#[from] StartX509popError),
    /// The one by Kubernetes' tokens.
    #[error(transparent)]
    K8sPsat(#[from] StartK8sPsatError),
}

impl NodeAttestors {
    /// The verifiers that are configured. They read their files once, so that a mistake shows at the start.
    ///
    /// # Errors
    /// When one can't be used.
    pub fn new(
        trust_domain: &TrustDomain,
        config: NodeAttestorsConfig,
    ) -> Result<Self, StartNodeAttestorError> {
        let NodeAttestorsConfig { x509pop, k8s_psat } = config;
        let mut verifiers: Vec<Arc<dyn NodeVerifier>> = Vec::new();
        if let Some(settings) = x509pop {
            let verifier = X509popVerifier::new(trust_domain.clone(), settings)?;
            verifiers.push(Arc::new(Bounded::new(verifier)));
        }
        if let Some(clusters) = k8s_psat {
            verifiers.push(Arc::new(Bounded::new(K8sPsatVerifier::new(clusters)?)));
        }
        Ok(Self::of(verifiers))
    }

    /// These.
    pub(crate) fn of(verifiers: Vec<Arc<dyn NodeVerifier>>) -> Self {
        Self {
            verifiers: verifiers.into(),
            room: Admission::new(AT_ONCE, AT_ONCE_PER_ADDRESS),
        }
    }

    /// The verifier of this kind.
    pub fn find(&self, kind: &str) -> Option<Arc<dyn NodeVerifier>> {
        self.verifiers
            .iter()
            .find(|verifier| verifier.kind() == kind)
            .cloned()
    }

    /// All kinds, in their order.
    pub fn kinds(&self) -> impl Iterator<Item = &'static str> {
        self.verifiers.iter().map(|verifier| verifier.kind())
    }

    /// The kind that takes an X.509-SVID of our own with this path as the proof of a node.
    pub fn takes_svid(&self, path: &IdPath) -> Option<&'static str> {
        let taking = self.verifiers.iter().find(|verifier| verifier.takes_svid(path));
        taking.map(|verifier| verifier.kind())
    }

    /// A place for one attestation of a caller from `address`.
    pub(crate) fn room(&self, address: Option<IpAddr>) -> Result<Ticket, Full> {
        self.room.admit(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_does_not_hold_all_attestations() {
        let attestors = NodeAttestors::of(Vec::new());
        let greedy: IpAddr = "203.0.113.1".parse().unwrap();
        let held: Vec<_> = (0..AT_ONCE)
            .map_while(|_| attestors.room(Some(greedy)).ok())
            .collect();
        assert_eq!(held.len(), AT_ONCE_PER_ADDRESS);
        assert!(attestors.room(Some("203.0.113.2".parse().unwrap())).is_ok());
    }
}
