//! Whether a node's certificate still counts: decided here and nowhere else, by the node's record in one view.

use std::sync::Arc;

use muster_identity::{EntryId, Position, SpiffeId, UnixTime, digest::SetDigest};
use muster_pki::x509::X509Svid;

use crate::registry::{CommitError, NodeRecord, Registered, Registry, View, node_bytes};
use crate::store::{Change, Expect, Tree};

/// The certificate that a node showed at its handshake, as far as its standing goes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NodeCertificate {
    /// Whose it is.
    pub id: SpiffeId,
    /// Its serial number, in decimal.
    pub serial: String,
    /// When it ends.
    pub not_after: UnixTime,
}

/// Which of a node's certificates one is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Counts {
    /// The one that counts.
    Current,
    /// The renewed one, whose first use makes it the one that counts.
    Renewed,
}

/// Why a node is not served.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NodeRefusal {
    /// Its certificate has expired.
    #[error("agent SVID has expired")]
    Expired,
    /// It is not attested, or was evicted.
    #[error("agent is not attested")]
    NotAttested,
    /// Another certificate took this one's place.
    #[error("agent SVID is not active")]
    NotActive,
    /// It is banned.
    #[error("agent is banned")]
    Banned,
}

/// Why a node may not call.
#[derive(Debug, thiserror::Error)]
pub enum AuthorizeError {
    /// Its certificate does not count.
    #[error(transparent)]
    Refused(#[from] NodeRefusal),
    /// The first use of a renewed certificate could not be written down.
    #[error("the first use of a renewed certificate could not be recorded")]
    Unavailable(#[source] CommitError),
}

impl NodeCertificate {
    /// That of an SVID.
    pub fn of(svid: &X509Svid) -> Self {
        Self {
            id: svid.id().clone(),
            serial: svid.serial().to_string(),
            not_after: svid.not_after(),
        }
    }

    /// As what it counts in `view` at `now`, with the node's record.
    ///
    /// # Errors
    /// [`NodeRefusal`] is what SPIRE's agents act on.
    pub fn standing<'a>(
        &self,
        view: &'a View,
        now: UnixTime,
    ) -> Result<(Counts, &'a Arc<NodeRecord>), NodeRefusal> {
        if self.not_after < now {
            return Err(NodeRefusal::Expired);
        }
        let node = view.node(&self.id).ok_or(NodeRefusal::NotAttested)?;
        let current = node.current.as_ref().ok_or(NodeRefusal::Banned)?;
        if current.serial == self.serial {
            return Ok((Counts::Current, node));
        }
        match &node.pending {
            Some(renewed) if renewed.serial == self.serial => Ok((Counts::Renewed, node)),
            _ => Err(NodeRefusal::NotActive),
        }
    }
}

/// A view in which a node's certificate counts. What a node is told and given is read from one of these, so that nothing can be, without its standing having been
/// asked on the very view that the answer rests on (I4).
#[derive(Clone, Debug)]
pub struct NodeView {
    view: Arc<View>,
    node: SpiffeId,
}

impl NodeView {
    /// `view`, if the certificate counts in it.
    ///
    /// # Errors
    /// When it does not.
    pub fn new(view: Arc<View>, certificate: &NodeCertificate, now: UnixTime) -> Result<Self, NodeRefusal> {
        certificate.standing(&view, now)?;
        let node = certificate.id.clone();
        Ok(Self { view, node })
    }

    /// The entry, if the node is entitled to it.
    pub fn entitled(&self, entry: &EntryId) -> Option<&Arc<Registered>> {
        self.view.entitled(&self.node, entry)
    }

    /// Those of `ids` that the node is entitled to, in their order.
    pub fn entitled_among(&self, ids: &[EntryId]) -> Vec<&Arc<Registered>> {
        self.view.entitled_among(&self.node, ids)
    }

    /// Everything that the node is entitled to, by id.
    pub fn entitled_set(&self) -> Vec<Arc<Registered>> {
        self.view.entitled_set(&self.node)
    }

    /// The order-free digest of what the node is entitled to.
    pub fn entitled_digest(&self) -> SetDigest {
        self.view.entitled_digest(&self.node)
    }

    /// Where in the log the view stands.
    pub fn position(&self) -> Position {
        self.view.position()
    }

    /// The view itself.
    pub fn into_view(self) -> Arc<View> {
        self.view
    }
}

/// The attested nodes, as the registry has them.
#[derive(Clone)]
pub struct Nodes {
    registry: Registry,
}

/// How often a promotion is tried again when the node's record changed meanwhile.
const TRIES: usize = 4;

impl Nodes {
    /// The nodes of `registry`.
    pub fn new(registry: Registry) -> Self {
        Self { registry }
    }

    /// The node, if its certificate counts at `now`. The first use of a renewed certificate makes it the node's only one, durably.
    ///
    /// # Errors
    /// When it does not count, or its first use could not be written down.
    pub async fn authorize(
        &self,
        certificate: &NodeCertificate,
        now: UnixTime,
    ) -> Result<Arc<NodeRecord>, AuthorizeError> {
        let mut tries = 0;
        loop {
            let view = self.registry.view();
            let node = match certificate.standing(&view, now)? {
                (Counts::Current, node) => return Ok(Arc::clone(node)),
                (Counts::Renewed, node) => node,
            };
            let mut promoted = NodeRecord::clone(node);
            promoted.current = promoted.pending.take();
            let put = Change::put(
                Tree::Nodes,
                node.id.to_string(),
                node_bytes(&promoted),
                Expect::At(node.version),
            );
            tries += 1;
            match self.registry.commit(vec![put]).await {
                Ok(_) => return Ok(Arc::new(promoted)),
                // Another connection of the same node was faster, or it was banned: look again.
                Err(CommitError::Conflict(_)) if tries < TRIES => {}
                Err(error) => return Err(AuthorizeError::Unavailable(error)),
            }
        }
    }
}
