//! The server's half.

use std::collections::BTreeMap;

use async_trait::async_trait;
use muster_identity::IdPath;
use muster_plugin_api::{
    AttestedNode, NodePath, NodePathError, NodeStep, NodeVerifier, NodeVerifyError, Reattestation, Shown,
};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tracing::{info, warn};

use super::api_server::{ApiError, ApiServer};
use super::cluster::{ClusterAccess, ClusterSettings};
use super::kube_config::{Endpoint, KubeConfigError, is_kube_config};
use super::objects::{Bearer, Object, is_name};
use super::wire::Payload;
use super::{KIND, PayloadError};

/// How many tokens are asked about at once: an API server has others to serve, and anybody can show something that looks like a token.
const AT_ONCE: usize = 8;

/// Takes nodes whose token a cluster's API server vouches for.
#[derive(Debug)]
pub struct K8sPsatVerifier {
    clusters: BTreeMap<String, ClusterSettings>,
    room: Semaphore,
}

/// Why there is no verifier.
#[derive(Debug, thiserror::Error)]
pub enum StartK8sPsatError {
    /// The name of a cluster.
    #[error("node attestor k8s_psat: the cluster name {name:?} can't be in a SPIFFE ID")]
    Name {
        /// Which.
        name: String,
        /// Why.
        source: NodePathError,
    },
    /// Two of one name.
    #[error("node attestor k8s_psat: there are two clusters {0:?}")]
    Twice(String),
    /// How it is reached.
    #[error("node attestor k8s_psat: cluster {name:?}")]
    KubeConfig {
        /// Which cluster.
        name: String,
        /// Why.
        source: KubeConfigError,
    },
}

impl K8sPsatVerifier {
    /// A verifier for the nodes of these clusters. Files are read once, so that a mistake shows at the start; the clusters need not be up.
    ///
    /// # Errors
    /// When a cluster can't be used as it is configured.
    pub fn new(clusters: Vec<ClusterSettings>) -> Result<Self, StartK8sPsatError> {
        let mut by_name = BTreeMap::new();
        for cluster in clusters {
            let name = cluster.name.clone();
            if let Err(source) = NodePath::of([KIND, &name]) {
                return Err(StartK8sPsatError::Name { name, source });
            }
            if let ClusterAccess::KubeConfig(path) = &cluster.access {
                is_kube_config(path).map_err(|source| StartK8sPsatError::KubeConfig {
                    name: name.clone(),
                    source,
                })?;
            }
            if by_name.insert(name.clone(), cluster).is_some() {
                return Err(StartK8sPsatError::Twice(name));
            }
        }
        Ok(Self {
            clusters: by_name,
            room: Semaphore::new(AT_ONCE),
        })
    }
}

#[async_trait]
impl NodeVerifier for K8sPsatVerifier {
    fn kind(&self) -> &'static str {
        KIND
    }

    /// Tokens of clusters alone.
    fn takes_svid(&self, _: &IdPath) -> bool {
        false
    }

    async fn begin(&self, shown: Shown) -> Result<NodeStep, NodeVerifyError> {
        let payload = Payload::parse(shown.payload.expose_secret()).map_err(|error| {
            NodeVerifyError::Malformed(match error {
                PayloadError::Cluster | PayloadError::Token => error.to_string(),
                _ => format!("the payload: {error}"),
            })
        })?;
        let cluster = self.clusters.get(payload.cluster()).ok_or_else(|| {
            // What a stranger sent is not repeated beyond what a name may be.
            let name: String = payload.cluster().chars().take(64).collect();
            NodeVerifyError::Malformed(format!("not configured for cluster {name:?}"))
        })?;
        let room = self.room.acquire().await;
        let _room = room.map_err(|error| NodeVerifyError::unavailable("asking the cluster", error))?;
        let found = Found::by(cluster, payload.expose_token()).await?;
        found.node(cluster).map(NodeStep::Attested)
    }
}

/// What the cluster says: whose token it is, in which pod, on which machine.
struct Found {
    bearer: Bearer,
    pod: Object,
    node: Object,
}

impl Found {
    async fn by(cluster: &ClusterSettings, token: &str) -> Result<Self, NodeVerifyError> {
        let name = &cluster.name;
        let access = cluster.access.clone();
        let endpoint = spawn_blocking(move || Endpoint::read(&access)).await;
        let endpoint = endpoint
            .map_err(|error| NodeVerifyError::unavailable("reading how the cluster is reached", error))?;
        let failed = |error| unanswered(name, error);
        let endpoint = endpoint.map_err(|error| failed(error.into()))?;
        let api = ApiServer::new(endpoint).map_err(failed)?;

        let status = api.review(token, &cluster.audience).await.map_err(failed)?;
        if !status.authenticated {
            // Kubernetes says there what each of its authenticators thought of the token.
            let said: String = status.error.chars().take(200).collect();
            info!(cluster = name, said, "a token is not authenticated");
            return Err(denied(
                name,
                "the token is not authenticated according to its TokenReview",
            ));
        }
        // An API server that does not say for whom the token is did not look (TokenReview, status.audiences).
        let audience = &cluster.audience;
        if !audience.is_empty() && !audience.iter().any(|wanted| status.audiences.contains(wanted)) {
            return Err(denied(
                name,
                "the token is not for the audience that is configured",
            ));
        }
        let bearer = status
            .bearer()
            .ok_or_else(|| denied(name, "the token is not that of a pod's service account"))?;
        let account = format!("{}:{}", bearer.namespace, bearer.service_account);
        if !cluster.service_account_allow_list.contains(&account) {
            return Err(denied(
                name,
                &format!("{account:?} is not an allowed service account"),
            ));
        }
        let pod = api
            .pod(&bearer.namespace, &bearer.pod_name)
            .await
            .map_err(failed)?;
        if pod.metadata.uid != bearer.pod_uid || pod.spec.service_account_name != bearer.service_account {
            return Err(denied(name, "the token's pod is gone; another one has its name"));
        }
        let machine = pod.spec.node_name.as_str();
        if !is_name(machine) || bearer.node_name.as_deref().is_some_and(|said| said != machine) {
            return Err(denied(
                name,
                "the token's pod runs on no node, or on another one than the token says",
            ));
        }
        let node = api.node(machine).await.map_err(failed)?;
        if node.metadata.name != machine
            || node.metadata.uid.is_empty()
            || bearer
                .node_uid
                .as_deref()
                .is_some_and(|said| said != node.metadata.uid)
        {
            return Err(denied(
                name,
                "the node is not the one that the token was made for",
            ));
        }
        Ok(Self { bearer, pod, node })
    }

    fn node(&self, cluster: &ClusterSettings) -> Result<AttestedNode, NodeVerifyError> {
        let Self { bearer, pod, node } = self;
        let name = cluster.name.as_str();
        let path = if cluster.use_pod_uid_for_agent_id {
            NodePath::of([KIND, name, "pod", &bearer.pod_uid])
        } else {
            NodePath::of([KIND, name, &node.metadata.uid])
        };
        let path = path.map_err(|error| denied(name, &format!("the node gets no name: {error}")))?;
        let mut values = vec![
            format!("cluster:{name}"),
            format!("agent_ns:{}", bearer.namespace),
            format!("agent_sa:{}", bearer.service_account),
            format!("agent_pod_name:{}", bearer.pod_name),
            format!("agent_pod_uid:{}", bearer.pod_uid),
            format!("agent_node_name:{}", node.metadata.name),
            format!("agent_node_uid:{}", node.metadata.uid),
        ];
        if !pod.status.host_ip.is_empty() {
            values.push(format!("agent_node_ip:{}", pod.status.host_ip));
        }
        values.extend(labels(
            "agent_node_label",
            &node.metadata.labels,
            &cluster.allowed_node_label_keys,
        ));
        values.extend(labels(
            "agent_pod_label",
            &pod.metadata.labels,
            &cluster.allowed_pod_label_keys,
        ));
        Ok(AttestedNode::new(KIND, path, values, Reattestation::Possible))
    }
}

fn labels<'a>(
    kind: &'a str,
    labels: &'a BTreeMap<String, String>,
    allowed: &'a [String],
) -> impl Iterator<Item = String> + 'a {
    let known = allowed.iter().filter_map(move |key| labels.get_key_value(key));
    known.map(move |(key, value)| format!("{kind}:{key}:{value}"))
}

fn denied(cluster: &str, why: &str) -> NodeVerifyError {
    NodeVerifyError::Denied(format!("cluster {cluster:?}: {why}"))
}

fn unanswered(cluster: &str, error: ApiError) -> NodeVerifyError {
    if error.is_forbidden() {
        warn!(
            cluster,
            "the API server refuses this server's account; it needs create on tokenreviews, get on pods and nodes"
        );
    }
    NodeVerifyError::unavailable(format!("asking the API server of cluster {cluster:?}"), error)
}
