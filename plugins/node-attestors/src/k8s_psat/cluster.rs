//! A cluster whose nodes are taken.

use std::path::PathBuf;

/// A cluster, under a name of the operator's own. Two of these may be the same cluster with different rules.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClusterSettings {
    /// Its name: what agents say, a segment of their SPIFFE IDs, and the value of a selector.
    pub name: String,
    /// The service accounts whose pods are node agents, each `namespace:name`.
    pub service_account_allow_list: Vec<String>,
    /// For whom a token must be; empty is whatever the API server takes by itself.
    pub audience: Vec<String>,
    /// How its API server is reached.
    pub access: ClusterAccess,
    /// The labels of Kubernetes nodes that become selectors.
    pub allowed_node_label_keys: Vec<String>,
    /// The labels of the agent's pod that become selectors.
    pub allowed_pod_label_keys: Vec<String>,
    /// Whether a node is called by its pod's uid instead of its machine's.
    pub use_pod_uid_for_agent_id: bool,
}

/// How an API server is reached, and as whom.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ClusterAccess {
    /// As a kubeconfig file says, which is read each time.
    KubeConfig(PathBuf),
    /// From a pod of the cluster itself, by the service account that is mounted into it.
    InCluster {
        /// `KUBERNETES_SERVICE_HOST` and `KUBERNETES_SERVICE_PORT`, as `https://host:port`.
        server: String,
        /// The folder with `token` and `ca.crt`.
        service_account: PathBuf,
    },
}

impl ClusterSettings {
    /// For whom tokens are when nobody says otherwise, as with SPIRE.
    pub const AUDIENCE: &'static str = "spire-server";
    /// Where Kubernetes mounts a pod's service account.
    pub const SERVICE_ACCOUNT: &'static str = "/var/run/secrets/kubernetes.io/serviceaccount";
}
