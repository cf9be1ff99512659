//! Before every handler: who calls, and may he?
//!
//! The order is SPIRE's: open to anybody, local, administrator by configuration, administrator by entry, downstream, node. The first that holds is the caller's role.
//! Grants come after administrators: who is one needs none. On the admin socket a uid that holds a grant is no administrator any more, root and our own excepted.
//! A node's standing is looked up at each call, so an evicted or banned node is refused on a warm connection too.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Instant;

use http::{Request, Response};
use http_body_util::{BodyExt as _, LengthLimitError};
use muster_audit::{Action, Event, Object};
use muster_identity::{SpiffeId, Subject};
use muster_proto::convert::Reason;
use muster_transport::{AdminPeer, TlsPeer};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};

use super::limits::{Limited, Who};
use super::methods::{Open, open_to};
use super::scope::verb_for;
use super::{Caller, Context, Origin, Refusal, Role, status};
use crate::nodes::{AuthorizeError, NodeCertificate};

/// How much of a call from somebody without a certificate is read, in all: a proof of a node's identity and its key. They may be hundreds, each with hundreds of calls.
const LARGEST_OF_UNKNOWN: usize = 64 << 10;

/// Puts the authorisation before a service.
#[derive(Clone)]
pub struct AuthorizeLayer {
    context: Arc<Context>,
}

/// A service behind the authorisation.
#[derive(Clone)]
pub struct Authorize<S> {
    context: Arc<Context>,
    inner: S,
}

impl AuthorizeLayer {
    /// Authorises by what `context` knows.
    pub fn new(context: Arc<Context>) -> Self {
        Self { context }
    }
}

impl<S> Layer<S> for AuthorizeLayer {
    type Service = Authorize<S>;

    fn layer(&self, inner: S) -> Authorize<S> {
        Authorize {
            context: Arc::clone(&self.context),
            inner,
        }
    }
}

impl<S> Service<Request<Body>> for Authorize<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut TaskContext<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let context = Arc::clone(&self.context);
        // The ready service is the one that is called; the clone takes its place.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        Box::pin(async move {
            let path = request.uri().path().to_owned();
            // Read before the first await: a body can't be shared between threads.
            let origin = origin(&request);
            let started = Instant::now();
            let response = match context.caller(origin, &path).await {
                Ok(caller) => {
                    if caller.is_unknown() {
                        request = request.map(small);
                    }
                    request.extensions_mut().insert(caller);
                    inner.call(request).await?
                }
                Err(refusal) => refusal.into_status().into_http(),
            };
            context.meter.count(&path, &response, started.elapsed());
            Ok(response)
        })
    }
}

impl Context {
    /// The caller, if the method is open to him. A refusal is recorded before it is answered.
    async fn caller(&self, origin: Result<Origin, Refusal>, path: &str) -> Result<Caller, Refusal> {
        let origin = origin?;
        match self.role(&origin, open_to(path), path).await {
            Ok(role) => Ok(Caller::new(origin, role)),
            Err(refusal) => {
                if let Origin::Tcp { address, .. } = &origin {
                    // Each record costs a write: who is refused again and again has to wait for it.
                    self.limits
                        .wait_for(Limited::Refusal, Who::at(address.ip()), 1)
                        .await?;
                }
                let actor = origin.actor(Role::Nobody);
                let event =
                    |outcome| Event::new(actor, Action::CallRefuse, outcome).object(Object::method(path));
                Err(self.refused(refusal, event).await)
            }
        }
    }

    async fn role(&self, origin: &Origin, open: Open, path: &str) -> Result<Role, Refusal> {
        if open.anybody {
            return Ok(Role::Nobody);
        }
        let denied = || {
            Refusal::new(
                Code::PermissionDenied,
                format!("authorization denied for method {path}"),
            )
        };
        let svid = match origin {
            Origin::Local { uid, .. } if self.is_confined(*uid) => {
                return self.granted(&Subject::Uid(*uid), path).ok_or_else(denied);
            }
            Origin::Local { .. } if open.local => return Ok(Role::Local),
            Origin::Local { .. } | Origin::Tcp { svid: None, .. } => return Err(denied()),
            Origin::Tcp { svid: Some(svid), .. } => svid,
        };
        // The certificate was valid at the handshake; the connection may have outlived it.
        let now = self.clock.now();
        if svid.not_after() < now {
            return Err(denied().reason(Reason::AgentExpired));
        }
        let id = svid.id();
        if !self.still_verifies(id) {
            return Err(denied());
        }
        if open.admin && self.is_admin(id) {
            return Ok(Role::Admin);
        }
        if open.admin
            && let Some(role) = self.granted(&Subject::Id(id.clone()), path)
        {
            return Ok(role);
        }
        if open.downstream && self.registry.view().has_downstream(id) {
            return Ok(Role::Downstream);
        }
        if !open.agent {
            return Err(denied());
        }
        match self.nodes.authorize(&NodeCertificate::of(svid), now).await {
            Ok(_) => Ok(Role::Agent),
            Err(AuthorizeError::Refused(refusal)) => Err(denied().reason(status::reason(refusal))),
            Err(error @ AuthorizeError::Unavailable(_)) => {
                Err(Refusal::unavailable("the node's standing is not known").because(error))
            }
        }
    }

    /// Whether grants say what this uid may do on the admin socket. They do so when they have ended, too: nobody becomes an administrator by waiting.
    fn is_confined(&self, uid: u32) -> bool {
        let stays_administrator = uid == 0 || uid == self.own_uid;
        !stays_administrator && self.registry.view().has_grant(&Subject::Uid(uid))
    }

    /// As what the holder of a grant is let in, if the method is one that some grant of his opens now.
    fn granted(&self, subject: &Subject, path: &str) -> Option<Role> {
        let verb = verb_for(path)?;
        let (view, now) = (self.registry.view(), self.clock.now());
        let opens = view
            .grants_of(subject)
            .any(|held| held.grant.is_live(now) && held.grant.verbs.has(verb));
        opens.then_some(Role::Granted)
    }

    /// Whether anybody still vouches for a foreign ID: its trust domain may have been revoked or narrowed since the handshake (I4).
    fn still_verifies(&self, id: &SpiffeId) -> bool {
        if id.is_member_of(&self.trust_domain) {
            return true;
        }
        let set = self.bundles.set();
        let vouched = set
            .get(id.trust_domain())
            .is_some_and(|bundle| !bundle.x509_authorities().is_empty());
        vouched && set.scope(id.trust_domain()).is_none_or(|scope| scope.covers(id))
    }

    /// Whether the ID is an administrator now, by configuration or by an entry.
    pub(super) fn is_admin(&self, id: &SpiffeId) -> bool {
        self.admin_ids.contains(id) || self.registry.view().is_admin(id)
    }
}

/// A body of which no more than a bounded part is read.
fn small(body: Body) -> Body {
    let bounded = http_body_util::Limited::new(body, LARGEST_OF_UNKNOWN);
    Body::new(bounded.map_err(|error| match error.downcast::<Status>() {
        Ok(status) => *status,
        Err(error) if error.is::<LengthLimitError>() => Status::resource_exhausted(format!(
            "more than {LARGEST_OF_UNKNOWN} bytes from a caller without a certificate"
        )),
        Err(error) => Status::from_error(error),
    }))
}

/// By which door the request came.
fn origin<B>(request: &Request<B>) -> Result<Origin, Refusal> {
    if let Some(AdminPeer { uid, gid, pid }) = request.extensions().get::<AdminPeer>() {
        return Ok(Origin::Local {
            uid: *uid,
            gid: *gid,
            pid: *pid,
        });
    }
    let Some(peer) = request.extensions().get::<TlsPeer>() else {
        return Err(Refusal::new(
            Code::Unauthenticated,
            "the connection says nothing about its peer",
        ));
    };
    let svid = peer
        .svid()
        .map_err(|error| Refusal::new(Code::Unauthenticated, format!("client certificate: {error}")))?;
    Ok(Origin::Tcp {
        address: peer.address,
        svid: svid.cloned(),
    })
}
