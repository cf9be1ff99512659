//! Whether a node's certificate still counts.

use muster_identity::{SpiffeId, UnixTime};
use muster_pki::x509::Serial;
use std::sync::Arc;

use crate::registry::{CommitError, NodeRecord, Registry, node_bytes};
use crate::store::{Change, Expect, Tree};

/// The attested nodes, as the registry has them.
#[derive(Clone)]
pub struct Nodes {
    registry: Registry,
}

/// Why a node may not call.
#[derive(Debug, thiserror::Error)]
pub enum NodeRefusal {
    /// Its certificate has expired.
    #[error("the node's certificate has expired")]
    Expired,
    /// It is not attested, or was evicted.
    #[error("the node is not attested")]
    NotAttested,
    /// Another certificate took this one's place.
    #[error("another certificate took the place of the node's")]
    NotActive,
    /// It is banned.
    #[error("the node is banned")]
    Banned,
    /// The first use of a renewed certificate could not be written down.
    #[error("the first use of a renewed certificate could not be recorded")]
    Unavailable(#[source] CommitError),
}

/// How often a promotion is tried again when the node's record changed meanwhile.
const TRIES: usize = 4;

impl Nodes {
    /// The nodes of `registry`.
    pub fn new(registry: Registry) -> Self {
        Self { registry }
    }

    /// The node, if the certificate with this serial counts at `now`. The first use of a renewed certificate makes it the node's only one, durably.
    ///
    /// # Errors
    /// What SPIRE's agents act on, see [`NodeRefusal`].
    pub async fn authorize(
        &self,
        id: &SpiffeId,
        serial: &Serial,
        not_after: UnixTime,
        now: UnixTime,
    ) -> Result<Arc<NodeRecord>, NodeRefusal> {
        if not_after < now {
            return Err(NodeRefusal::Expired);
        }
        let serial = serial.to_string();
        let mut tries = 0;
        loop {
            let view = self.registry.view();
            let node = view.node(id).ok_or(NodeRefusal::NotAttested)?;
            if node.is_banned() {
                return Err(NodeRefusal::Banned);
            }
            if node.current.as_ref().is_some_and(|svid| svid.serial == serial) {
                return Ok(Arc::clone(node));
            }
            if node.pending.as_ref().is_none_or(|svid| svid.serial != serial) {
                return Err(NodeRefusal::NotActive);
            }
            let mut promoted = NodeRecord::clone(node);
            promoted.current = promoted.pending.take();
            let put = Change::put(
                Tree::Nodes,
                id.to_string(),
                node_bytes(&promoted),
                Expect::At(node.version),
            );
            tries += 1;
            match self.registry.commit(vec![put]).await {
                Ok(_) => return Ok(Arc::new(promoted)),
                // Another connection of the same node was faster, or it was banned: look again.
                Err(CommitError::Conflict(_)) if tries < TRIES => {}
                Err(error) => return Err(NodeRefusal::Unavailable(error)),
            }
        }
    }
}
