//! Nodes coming in, coming back, and renewing.
//!
//! Whatever the way, the CSR proves its key before anything is looked up by it, and only the key is taken from it.

use std::sync::Arc;

use muster_audit::{Action, Event, Object, Outcome};
use muster_identity::{SpiffeId, UnixTime};
use muster_pki::x509::{Csr, Subject, X509Svid};
use muster_pki::{PublicKey, SecretBytes};
use muster_plugin_api::{AttestedNode, NodeVerifier, NodeVerifyError};
use muster_proto::convert;
use muster_proto::spire::server::agent::{RenewAgentRequest, attest_agent_request, attest_agent_response};
use muster_proto::spire::types::{self, permission_denied_details::Reason};
use tonic::Code;

use crate::admission::{Full, Ticket};
use crate::api::{Caller, Context, Refusal, scope};
use crate::ca::{Holder, X509Request};
use crate::nodes::{self, Join, JoinError};
use crate::registry::{CommitError, NodeKey, NodeSvid, TokenHash, View};

/// How often a change is tried when others change the same node or token at the same time.
const TRIES: usize = 4;

/// Lets a node in, or says why not. Answers its certificate and whether it can attest again by itself.
pub(super) async fn attest(
    context: &Context,
    caller: &Caller,
    proof: Proof,
) -> Result<attest_agent_response::Result, Refusal> {
    let kind = proof.kind();
    match let_in(context, proof).await {
        Ok((svid, reattestable)) => {
            tracing::info!(node = %svid.id(), attestation_type = kind, expires_at = %svid.not_after(), "node attested");
            let event = done(caller, Action::NodeAttest, &svid).fact("attestation_type", kind);
            context.record(event).await?;
            Ok(attest_agent_response::Result {
                svid: Some(convert::x509_svid_to_wire(&svid, "")),
                reattestable,
            })
        }
        Err(refusal) => Err(refused(context, caller, Some(kind), refusal).await),
    }
}

/// A refused attestation, on record.
pub(super) async fn refused(
    context: &Context,
    caller: &Caller,
    kind: Option<&'static str>,
    refusal: Refusal,
) -> Refusal {
    let event = |outcome| {
        let event = Event::new(caller.actor(), Action::NodeAttest, outcome);
        kind.into_iter()
            .fold(event, |event, kind| event.fact("attestation_type", kind))
    };
    context.refused(refusal, event).await
}

/// Gives a node its next certificate; the present one counts until the next is used.
pub(super) async fn renew(
    context: &Context,
    caller: &Caller,
    request: RenewAgentRequest,
) -> Result<types::X509svid, Refusal> {
    let id = caller.node()?;
    let renewed = async {
        let csr = request
            .params
            .map(|params| params.csr)
            .filter(|csr| !csr.is_empty());
        let csr = csr.ok_or_else(|| Refusal::invalid("params: missing CSR"))?;
        let key = key_of(context, csr).await?;
        let svid = sign(context, id.clone(), key).await?;
        for _ in 0..TRIES {
            let view = context.registry.view();
            let node = view
                .node(id)
                .ok_or_else(|| Refusal::not_found("agent not found"))?;
            if node.is_banned() {
                return Err(denied("agent is banned", Reason::AgentBanned));
            }
            if node.can_reattest {
                return Err(denied(
                    "agent must reattest instead of renew",
                    Reason::AgentMustReattest,
                ));
            }
            match context.registry.commit(nodes::renew(node, known_by(&svid))).await {
                Ok(_) => return Ok(svid),
                Err(CommitError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Refusal::new(Code::Aborted, "the node is being changed by others"))
    };
    match renewed.await {
        Ok(svid) => {
            context.record(done(caller, Action::NodeRenew, &svid)).await?;
            Ok(convert::x509_svid_to_wire(&svid, ""))
        }
        Err(refusal) => {
            let event =
                |outcome| Event::new(caller.actor(), Action::NodeRenew, outcome).object(Object::node(id));
            Err(context.refused(refusal, event).await)
        }
    }
}

/// What a node shows to come in.
pub(super) enum Proof {
    Token {
        token: String,
        csr: Vec<u8>,
    },
    Rejoin {
        id: SpiffeId,
        csr: Vec<u8>,
    },
    /// A verifier has taken it.
    Attested {
        kind: &'static str,
        node: AttestedNode,
        csr: Vec<u8>,
    },
}

/// How a node begins.
pub(super) enum Opening {
    /// With everything at once.
    Whole(Proof),
    /// With the first word of a conversation.
    Conversation {
        verifier: Arc<dyn NodeVerifier>,
        payload: SecretBytes,
        csr: Vec<u8>,
        /// Its place among those that are under way.
        room: Ticket,
    },
}

impl Proof {
    fn kind(&self) -> &'static str {
        match self {
            Proof::Token { .. } => "join_token",
            Proof::Rejoin { .. } => "rejoin",
            Proof::Attested { kind, .. } => kind,
        }
    }

    fn csr(&self) -> &[u8] {
        match self {
            Proof::Token { csr, .. } | Proof::Rejoin { csr, .. } | Proof::Attested { csr, .. } => csr,
        }
    }

    /// Whether it is a token that was made by a grant.
    fn is_by_grant(&self, view: &View) -> bool {
        match self {
            Proof::Token { token, .. } => view
                .token(&TokenHash::of(token))
                .is_some_and(|token| token.made_by.is_some()),
            Proof::Rejoin { .. } | Proof::Attested { .. } => false,
        }
    }

    fn decide(&self, context: &Context, view: &View, key: NodeKey, now: UnixTime) -> Result<Join, JoinError> {
        match self {
            Proof::Token { token, .. } => nodes::join(view, token, key, now, |grant, node, alias| {
                scope::redeem(&context.surroundings(view), grant, node, alias)
            }),
            Proof::Rejoin { id, .. } => nodes::rejoin(view, id, key, now),
            Proof::Attested { kind, node, .. } => attested(view, kind, node, now),
        }
    }
}

fn attested(view: &View, kind: &str, node: &AttestedNode, now: UnixTime) -> Result<Join, JoinError> {
    let id = node.path().id(view.trust_domain());
    let id = id.map_err(|error| JoinError::NoName(error.to_string()))?;
    nodes::attested(view, kind, &id, node, now)
}

/// Takes the first message apart, in SPIRE's order of complaints.
pub(super) fn open(
    context: &Context,
    caller: &Caller,
    params: attest_agent_request::Params,
) -> Result<Opening, Refusal> {
    let missing = |what: &str| Refusal::invalid(format!("malformed param: missing {what}"));
    let data = params.data.ok_or_else(|| missing("attestation data"))?;
    let csr = params.params.ok_or_else(|| missing("X509-SVID parameters"))?.csr;
    if csr.is_empty() {
        return Err(missing("CSR"));
    }
    if data.r#type.is_empty() {
        return Err(missing("attestation data type"));
    }
    if data.payload.is_empty() {
        return Err(missing("attestation data payload"));
    }
    match data.r#type.as_str() {
        "join_token" => {
            // What is no text is no token of ours; it is refused as any unknown one.
            let token = String::from_utf8(data.payload).unwrap_or_default();
            Ok(Opening::Whole(Proof::Token { token, csr }))
        }
        "rejoin" => {
            let id = std::str::from_utf8(&data.payload)
                .ok()
                .and_then(|id| id.parse().ok());
            let id = id.ok_or_else(|| Refusal::invalid("payload: not a SPIFFE ID"))?;
            Ok(Opening::Whole(Proof::Rejoin { id, csr }))
        }
        other => match context.node_attestors.find(other) {
            Some(verifier) => {
                let room = context.node_attestors.room(caller.ip()).map_err(|full| {
                    Refusal::unavailable(match full {
                        Full::All => "too many attestations are under way, try again",
                        Full::One => "too many attestations from this address are under way, try again",
                    })
                })?;
                Ok(Opening::Conversation {
                    verifier,
                    payload: SecretBytes::new(data.payload),
                    csr,
                    room,
                })
            }
            None => {
                let other = muster_runtime::logging::shown(other).to_string();
                let known: Vec<_> = ["join_token"]
                    .into_iter()
                    .chain(context.node_attestors.kinds())
                    .collect();
                let known = known.join(", ");
                let text = format!("could not find node attestor type {other:?}; this server knows {known}");
                Err(Refusal::new(Code::FailedPrecondition, text))
            }
        },
    }
}

async fn let_in(context: &Context, proof: Proof) -> Result<(X509Svid, bool), Refusal> {
    if let Proof::Attested { kind, node, .. } = &proof {
        // SPIRE's order: who is banned hears that, whatever the CSR is like.
        attested(&context.registry.view(), kind, node, context.clock.now())?;
    }
    let public_key = key_of(context, proof.csr().to_vec()).await?;
    let key = NodeKey::of(&public_key);
    let mut turn = None;
    let mut signed: Option<X509Svid> = None;
    for _ in 0..TRIES {
        let mut view = context.registry.view();
        // In turn with changes of grants: when the deletion of one is answered, nobody comes in by it. Asked of the very view that is decided by: a token may be
        // made by a grant while it is being redeemed already.
        if turn.is_none() && proof.is_by_grant(&view) {
            turn = Some(context.one_at_a_time.turn().await);
            view = context.registry.view();
        }
        let now = context.clock.now();
        let join = proof.decide(context, &view, key, now)?;
        // Signed before the token is consumed: what fails in between leaves the token as it was.
        let svid = match signed.take() {
            Some(svid) => svid,
            None => sign(context, join.id().clone(), public_key.clone()).await?,
        };
        match context.registry.commit(join.changes(known_by(&svid), now)).await {
            Ok(_) => return Ok((svid, join.can_reattest())),
            // Somebody else used the token or changed the node: decided anew by what is true now.
            Err(CommitError::Conflict(_)) => signed = Some(svid),
            Err(error) => return Err(error.into()),
        }
    }
    Err(Refusal::new(
        Code::Aborted,
        "the node is being attested by others at the same time",
    ))
}

/// The key of a CSR, after its policy and its proof were checked, where public-key operations are counted.
async fn key_of(context: &Context, csr: Vec<u8>) -> Result<PublicKey, Refusal> {
    let parsed = context
        .ca
        .pool()
        .run(move || Csr::parse(&csr).map(|csr| csr.public_key().clone()))
        .await?;
    parsed.map_err(|error| Refusal::invalid(format!("csr: {error}")))
}

async fn sign(context: &Context, id: SpiffeId, public_key: PublicKey) -> Result<X509Svid, Refusal> {
    let request = X509Request {
        id,
        public_key,
        dns_names: Vec::new(),
        subject: Subject::default(),
        holder: Holder::Node,
        lifetime: None,
    };
    Ok(context.ca.sign_x509_svid(request).await?)
}

fn known_by(svid: &X509Svid) -> NodeSvid {
    NodeSvid {
        serial: svid.serial().to_string(),
        not_after: svid.not_after(),
        key: NodeKey::of(svid.public_key()),
    }
}

fn done(caller: &Caller, action: Action, svid: &X509Svid) -> Event {
    Event::new(caller.actor(), action, Outcome::Done)
        .object(Object::node(svid.id()))
        .fact("serial", svid.serial())
        .fact("expires_at", svid.not_after())
}

fn denied(message: &str, reason: Reason) -> Refusal {
    Refusal::new(Code::PermissionDenied, message).reason(reason)
}

impl From<JoinError> for Refusal {
    fn from(error: JoinError) -> Self {
        match error {
            JoinError::UnknownToken | JoinError::ExpiredToken => {
                Self::invalid(format!("failed to attest: {error}"))
            }
            JoinError::Banned => denied("failed to attest: agent is banned", Reason::AgentBanned),
            JoinError::MustReattest(_) => {
                denied(&format!("failed to attest: {error}"), Reason::AgentMustReattest)
            }
            JoinError::Used
            | JoinError::OtherKind(_)
            | JoinError::GrantEnded(_)
            | JoinError::NotAllowed(_) => {
                Self::new(Code::PermissionDenied, format!("failed to attest: {error}"))
            }
            JoinError::NoName(_) => Self::internal(format!("failed to attest: {error}")),
            JoinError::UnknownNode | JoinError::TooLate => {
                denied(&format!("failed to attest: {error}"), Reason::AgentNotAttested)
            }
        }
    }
}

impl From<NodeVerifyError> for Refusal {
    fn from(error: NodeVerifyError) -> Self {
        let text = format!("failed to attest: {error}");
        match error {
            NodeVerifyError::Malformed(_) => Self::invalid(text),
            NodeVerifyError::Denied(_) => Self::new(Code::PermissionDenied, text),
            error @ NodeVerifyError::Unavailable { .. } => Self::unavailable(text).because(error),
        }
    }
}
