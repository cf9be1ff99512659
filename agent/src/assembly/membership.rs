//! What this machine is to its server at the start.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use muster_node_attestors::JoinTokenAttestor;
use muster_plugin_api::NodeAttestor;
use muster_runtime::Clock;

use super::BuildError;
use crate::attest::{JoinRequest, Membership, OldMembership, become_node, read_token};
use crate::config::{Config, JoinConfig, TokenSource};
use crate::keep::{Folder, NodeState, NodeStore};

/// How long the first attestation is tried at a start, before the start has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whether the folder holds a node's identity, so that no join token is needed. A folder that can't be read, or that a running agent holds, is an error.
pub fn is_joined(data_dir: &Path) -> Result<bool, BuildError> {
    let (_, state) = Folder::open(data_dir)?.node()?;
    Ok(state.is_some_and(|state| state.identity.is_some()))
}

/// The node's own state: as it was left, or made by the first attestation.
pub(super) async fn member(
    config: &Config,
    folder: &Folder,
    store: NodeStore,
    state: Option<NodeState>,
    clock: &dyn Clock,
) -> Result<Membership, BuildError> {
    let joined = state.as_ref().filter(|state| state.identity.is_some());
    let mut membership = match (joined, &config.join, &config.server) {
        (Some(joined), ..) => Membership::new(store, joined.clone())?,
        (None, Some(join), Some(server)) => {
            let request = JoinRequest {
                data_dir: config.data_dir.clone(),
                server: server.clone(),
                attestor: first_proof(config, join)?,
                pin: join.pin.clone(),
                trust_domain: config.trust_domain.clone(),
                old: OldMembership::Keep,
            };
            become_node(folder, store, state, &request, clock, PATIENCE).await?
        }
        (None, ..) => return Err(BuildError::NotJoined),
    };
    let joined = &membership.state().trust_domain;
    if let Some(configured) = config
        .trust_domain
        .as_ref()
        .filter(|configured| *configured != joined)
    {
        let (joined, configured) = (joined.clone(), configured.clone());
        return Err(BuildError::OtherTrustDomain { joined, configured });
    }
    if let Some(server) = &config.server {
        membership.use_server(server.clone());
    }
    Ok(membership)
}

/// What proves this machine the first time.
fn first_proof(config: &Config, join: &JoinConfig) -> Result<Arc<dyn NodeAttestor>, BuildError> {
    let token = match (&config.node_attestor, &join.token) {
        (Some(proof), _) => return Ok(proof.attestor()),
        (None, Some(TokenSource::Token(token))) => token.clone(),
        (None, Some(TokenSource::File(path))) => read_token(path)?,
        (None, None) => return Err(BuildError::NotJoined),
    };
    Ok(Arc::new(JoinTokenAttestor::new(token)))
}
