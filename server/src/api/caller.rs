//! Who calls, as it was established before the handler runs.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use muster_audit::Actor;
use muster_identity::{SpiffeId, Subject};
use muster_pki::x509::X509Svid;

use super::Refusal;
use crate::nodes::NodeCertificate;

/// The caller of a request: put into the request's extensions by the authorisation layer, taken from there by handlers.
#[derive(Clone, Debug)]
pub struct Caller {
    origin: Origin,
    role: Role,
}

/// By which door the caller came, and what it showed there.
#[derive(Clone, Debug)]
pub enum Origin {
    /// The admin socket.
    Local {
        /// The process's effective uid, by the kernel.
        uid: u32,
        /// Its effective gid.
        gid: u32,
        /// The process, for correlation only.
        pid: i32,
    },
    /// TCP with TLS.
    Tcp {
        /// Where it connected from.
        address: SocketAddr,
        /// The X.509-SVID that it showed, verified at the handshake.
        svid: Option<Arc<X509Svid>>,
    },
}

/// As what the caller was let in: the first that its method allows, in SPIRE's order.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// As anybody.
    Nobody,
    /// As a local administrator.
    Local,
    /// As an administrator, by configuration or entry.
    Admin,
    /// By grants, which its handlers ask: it is no administrator.
    Granted,
    /// As a downstream server.
    Downstream,
    /// As an attested node.
    Agent,
}

impl Caller {
    pub(crate) fn new(origin: Origin, role: Role) -> Self {
        Self { origin, role }
    }

    /// The caller of `request`.
    pub fn of<T>(request: &tonic::Request<T>) -> Result<Self, Refusal> {
        // Without the layer there is no caller, and without a caller there is no answer.
        request
            .extensions()
            .get::<Self>()
            .cloned()
            .ok_or_else(|| Refusal::internal("the call was not authorised"))
    }

    /// By which door it came.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// As what it was let in.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Its SPIFFE ID, if it showed one.
    pub fn spiffe_id(&self) -> Option<&SpiffeId> {
        self.svid().map(|svid| svid.id())
    }

    /// Its X.509-SVID, if it showed one.
    pub fn svid(&self) -> Option<&Arc<X509Svid>> {
        match &self.origin {
            Origin::Local { .. } => None,
            Origin::Tcp { svid, .. } => svid.as_ref(),
        }
    }

    /// Whether it came over TCP and showed no certificate.
    pub(crate) fn is_unknown(&self) -> bool {
        matches!(self.origin, Origin::Tcp { svid: None, .. })
    }

    /// The node that calls. Only for methods that are open to nodes.
    pub fn node(&self) -> Result<&SpiffeId, Refusal> {
        match (self.role, self.spiffe_id()) {
            (Role::Agent, Some(id)) => Ok(id),
            _ => Err(Refusal::internal("the caller is not a node")),
        }
    }

    /// The certificate that the calling node showed. Only for methods that are open to nodes.
    pub(crate) fn certificate(&self) -> Result<NodeCertificate, Refusal> {
        match (self.role, self.svid()) {
            (Role::Agent, Some(svid)) => Ok(NodeCertificate::of(svid)),
            _ => Err(Refusal::internal("the caller is not a node")),
        }
    }

    /// As whom it can hold grants.
    pub fn subject(&self) -> Option<Subject> {
        self.origin.subject()
    }

    /// The address that rate limits count by; none for local callers, who are not limited.
    pub fn ip(&self) -> Option<IpAddr> {
        match &self.origin {
            Origin::Local { .. } => None,
            Origin::Tcp { address, .. } => Some(address.ip().to_canonical()),
        }
    }

    /// The caller as the audit log names it.
    pub fn actor(&self) -> Actor {
        self.origin.actor(self.role)
    }
}

impl Origin {
    pub(crate) fn subject(&self) -> Option<Subject> {
        match self {
            Self::Local { uid, .. } => Some(Subject::Uid(*uid)),
            Self::Tcp { svid, .. } => svid.as_ref().map(|svid| Subject::Id(svid.id().clone())),
        }
    }

    pub(crate) fn actor(&self, role: Role) -> Actor {
        match self {
            Self::Local { uid, pid, .. } => Actor::local(*uid, *pid),
            Self::Tcp { svid: Some(svid), .. } if role == Role::Agent => Actor::node(svid.id()),
            Self::Tcp { svid: Some(svid), .. } => Actor::caller(svid.id()),
            Self::Tcp { svid: None, address } => Actor::unknown(address),
        }
    }
}
