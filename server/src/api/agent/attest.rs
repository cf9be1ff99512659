//! Nodes coming in, coming back, and renewing.
//!
//! Whatever the way, the CSR proves its key before anything is looked up by it, and only the key is taken from it.

use muster_audit::{Action, Event, Object, Outcome};
use muster_identity::{SpiffeId, UnixTime};
use muster_pki::PublicKey;
use muster_pki::x509::{Csr, Subject, X509Svid};
use muster_proto::convert;
use muster_proto::spire::server::agent::{RenewAgentRequest, attest_agent_request};
use muster_proto::spire::types::{self, permission_denied_details::Reason};
use tonic::Code;

use crate::api::{Caller, Context, Refusal};
use crate::ca::{Holder, X509Request};
use crate::nodes::{self, Join, JoinError};
use crate::registry::{CommitError, NodeKey, NodeSvid, View};

/// How often a change is tried when others change the same node or token at the same time.
const TRIES: usize = 4;

/// Lets a node in, or says why not. Answers its certificate and whether it can attest again by itself.
pub(super) async fn attest(
    context: &Context,
    caller: &Caller,
    params: attest_agent_request::Params,
) -> Result<(types::X509svid, bool), Refusal> {
    let proof = match read(params) {
        Ok(proof) => proof,
        Err(refusal) => {
            let event = |outcome| Event::new(caller.actor(), Action::NodeAttest, outcome);
            return Err(context.refused(refusal, event).await);
        }
    };
    let kind = proof.kind();
    match let_in(context, proof).await {
        Ok(svid) => {
            tracing::info!(node = %svid.id(), attestation_type = kind, expires_at = %svid.not_after(), "node attested");
            let event = done(caller, Action::NodeAttest, &svid).fact("attestation_type", kind);
            context.record(event).await?;
            Ok((convert::x509_svid_to_wire(&svid, ""), false))
        }
        Err(refusal) => {
            let event = |outcome| {
                Event::new(caller.actor(), Action::NodeAttest, outcome).fact("attestation_type", kind)
            };
            Err(context.refused(refusal, event).await)
        }
    }
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
enum Proof {
    Token { token: String, csr: Vec<u8> },
    Rejoin { id: SpiffeId, csr: Vec<u8> },
}

impl Proof {
    fn kind(&self) -> &'static str {
        match self {
            Proof::Token { .. } => "join_token",
            Proof::Rejoin { .. } => "rejoin",
        }
    }

    fn csr(&self) -> &[u8] {
        match self {
            Proof::Token { csr, .. } | Proof::Rejoin { csr, .. } => csr,
        }
    }

    fn decide(&self, view: &View, key: NodeKey, now: UnixTime) -> Result<Join, JoinError> {
        match self {
            Proof::Token { token, .. } => nodes::join(view, token, key, now),
            Proof::Rejoin { id, .. } => nodes::rejoin(view, id, key, now),
        }
    }
}

fn read(params: attest_agent_request::Params) -> Result<Proof, Refusal> {
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
        return Err(missing("payload"));
    }
    match data.r#type.as_str() {
        "join_token" => {
            // What is no text is no token of ours; it is refused as any unknown one.
            let token = String::from_utf8(data.payload).unwrap_or_default();
            Ok(Proof::Token { token, csr })
        }
        "rejoin" => {
            let id = std::str::from_utf8(&data.payload)
                .ok()
                .and_then(|id| id.parse().ok());
            let id = id.ok_or_else(|| Refusal::invalid("payload: not a SPIFFE ID"))?;
            Ok(Proof::Rejoin { id, csr })
        }
        other => {
            let other = muster_runtime::logging::shown(other).to_string();
            let text = format!("could not find node attestor type {other:?}; this server knows join_token");
            Err(Refusal::new(Code::FailedPrecondition, text))
        }
    }
}

async fn let_in(context: &Context, proof: Proof) -> Result<X509Svid, Refusal> {
    let public_key = key_of(context, proof.csr().to_vec()).await?;
    let key = NodeKey::of(&public_key);
    let mut signed: Option<X509Svid> = None;
    for _ in 0..TRIES {
        let now = context.clock.now();
        let join = proof.decide(&context.registry.view(), key, now)?;
        // Signed before the token is consumed: what fails in between leaves the token as it was.
        let svid = match signed.take() {
            Some(svid) => svid,
            None => sign(context, join.id().clone(), public_key.clone()).await?,
        };
        match context.registry.commit(join.changes(known_by(&svid), now)).await {
            Ok(_) => return Ok(svid),
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
            JoinError::UnknownNode | JoinError::TooLate => {
                denied(&format!("failed to attest: {error}"), Reason::AgentNotAttested)
            }
        }
    }
}
