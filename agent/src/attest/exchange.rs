//! The calls by which a node gets its certificate.

use std::error::Error as _;
use std::time::Duration;

use muster_node_attestors::RejoinAttestor;
use muster_pki::bundle::Bundle;
use muster_pki::x509::{X509Svid, create_csr};
use muster_pki::{LocalKey, Signer};
use muster_plugin_api::{NodeAttestError, NodeAttestor};
use muster_proto::convert;
use muster_proto::spire::server::agent::agent_client::AgentClient;
use muster_proto::spire::server::agent::{
    AgentX509svidParams, AttestAgentRequest, AttestAgentResponse, RenewAgentRequest, attest_agent_request,
    attest_agent_response,
};
use muster_proto::spire::server::bundle::{GetBundleRequest, bundle_client::BundleClient};
use muster_proto::spire::types;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::Membership;
use crate::sync::{ConnectError, Dial};

/// How long one call may take.
const WITHIN: Duration = Duration::from_secs(30);
/// How many challenges a server may pose.
const MOST_CHALLENGES: usize = 16;

/// Why a node got no certificate.
#[derive(Debug, thiserror::Error)]
pub enum AttestError {
    /// The server answered no; asking the same again brings the same.
    #[error("the server refused this node: {message}")]
    Denied {
        /// What is to be done about it.
        denial: Denial,
        /// The server's words.
        message: String,
    },
    /// The call failed; it may work later.
    #[error("asking the server")]
    Call(#[source] Box<Status>),
    /// There is no connection to ask over.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The server did not answer in time.
    #[error("the server did not answer within {} s", WITHIN.as_secs())]
    Slow,
    /// The request could not be made.
    #[error("making the certificate request")]
    Request(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The node has nothing to prove itself by.
    #[error("proving this node")]
    Proof(#[from] NodeAttestError),
    /// The server's answer can't be used.
    #[error("the server's answer holds {0}")]
    Answer(&'static str),
    /// A certificate can't be read.
    #[error("the server's answer")]
    Certificate(#[from] convert::FieldError),
}

/// What a refusal means for the node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Denial {
    /// An operator banned it.
    Banned,
    /// Its certificate counts no longer; it may prove itself again.
    MustReattest,
    /// Something else, that an operator must look at.
    Other,
}

/// Proves the node by `attestor` and gets a certificate for `key`.
pub async fn attest(
    channel: Channel,
    attestor: &dyn NodeAttestor,
    key: &LocalKey,
) -> Result<X509Svid, AttestError> {
    let asked = tokio::time::timeout(WITHIN, converse(channel, attestor, key));
    asked.await.map_err(|_| AttestError::Slow)?
}

/// Gets a certificate for `key` in the name of the node whose certificate the connection shows.
pub async fn renew(channel: Channel, key: &LocalKey) -> Result<X509Svid, AttestError> {
    let request = RenewAgentRequest {
        params: Some(params(key)?),
    };
    let mut client = AgentClient::new(channel);
    let renewed = tokio::time::timeout(WITHIN, client.renew_agent(request));
    let answer = renewed
        .await
        .map_err(|_| AttestError::Slow)?
        .map_err(AttestError::from_status)?;
    certificate(answer.into_inner().svid.as_ref(), key)
}

/// Proves the node anew by a proof that lasts, over a connection of its own: with the answer every earlier certificate of the node ends, and so do the
/// connections that show one.
pub async fn attest_again(
    dial: Dial,
    attestor: &dyn NodeAttestor,
    key: &LocalKey,
) -> Result<X509Svid, AttestError> {
    attest(dial.connect().await?, attestor, key).await
}

/// The way back of a node whose certificate ended: by its last key.
pub async fn rejoin(channel: Channel, membership: &Membership) -> Result<X509Svid, AttestError> {
    let identity = membership
        .state()
        .identity
        .as_ref()
        .ok_or(AttestError::Answer("no earlier certificate"))?;
    let key = identity
        .signer()
        .map_err(|error| AttestError::Request(error.into()))?;
    attest(channel, &RejoinAttestor::new(identity.svid.id().clone()), &key).await
}

/// The bundle of the server at the other end, which anybody may ask for.
pub async fn fetch_bundle(channel: Channel) -> Result<Bundle, AttestError> {
    let mut client = BundleClient::new(channel);
    let asked = tokio::time::timeout(WITHIN, client.get_bundle(GetBundleRequest::default()));
    let answer = asked.await.map_err(|_| AttestError::Slow)?;
    let answer = answer.map_err(|status| AttestError::Call(Box::new(status)))?;
    Ok(convert::bundle(&answer.into_inner())?)
}

async fn converse(
    channel: Channel,
    attestor: &dyn NodeAttestor,
    key: &LocalKey,
) -> Result<X509Svid, AttestError> {
    let mut proof = attestor.begin().await?;
    let (requests, sent) = mpsc::channel(1);
    let data = types::AttestationData {
        r#type: attestor.kind().to_owned(),
        payload: proof.payload().expose_secret().to_vec(),
    };
    let params = attest_agent_request::Params {
        data: Some(data),
        params: Some(params(key)?),
    };
    send(&requests, attest_agent_request::Step::Params(params)).await;
    let mut client = AgentClient::new(channel);
    let answers = client
        .attest_agent(ReceiverStream::new(sent))
        .await
        .map_err(AttestError::from_status)?;
    let mut answers = answers.into_inner();
    for _ in 0..MOST_CHALLENGES {
        let answer: Option<AttestAgentResponse> =
            answers.message().await.map_err(AttestError::from_status)?;
        match answer.and_then(|answer| answer.step) {
            Some(attest_agent_response::Step::Result(result)) => {
                return certificate(result.svid.as_ref(), key);
            }
            Some(attest_agent_response::Step::Challenge(challenge)) => {
                let response = proof.answer(&challenge).await?;
                send(&requests, attest_agent_request::Step::ChallengeResponse(response)).await;
            }
            None => return Err(AttestError::Answer("neither a certificate nor a challenge")),
        }
    }
    Err(AttestError::Answer("one challenge after the other"))
}

async fn send(requests: &mpsc::Sender<AttestAgentRequest>, step: attest_agent_request::Step) {
    // A server that hangs up says why in its answer, which is read next.
    requests.send(AttestAgentRequest { step: Some(step) }).await.ok();
}

fn params(key: &LocalKey) -> Result<AgentX509svidParams, AttestError> {
    let csr = create_csr(key, None).map_err(|error| AttestError::Request(error.into()))?;
    Ok(AgentX509svidParams { csr })
}

/// The certificate of an answer, if it is for our key.
fn certificate(svid: Option<&types::X509svid>, key: &LocalKey) -> Result<X509Svid, AttestError> {
    let svid = convert::x509_svid("svid", svid)?;
    if svid.public_key() != key.public_key() {
        return Err(AttestError::Answer("a certificate for another key"));
    }
    Ok(svid)
}

impl AttestError {
    /// Whether asking again later may help without anybody doing anything.
    pub fn may_retry(&self) -> bool {
        !matches!(self, Self::Denied { .. } | Self::Proof(_) | Self::Request(_))
    }

    /// Whether the connection broke, or took no more calls, through nothing that was said on it.
    pub fn is_break(&self) -> bool {
        matches!(self, Self::Call(status) if status.source().is_some())
    }

    /// What a refusal means, if this is one.
    pub fn denial(&self) -> Option<Denial> {
        match self {
            Self::Denied { denial, .. } => Some(*denial),
            _ => None,
        }
    }

    fn from_status(status: Status) -> Self {
        match denial_of(&status) {
            Some(denial) => Self::Denied {
                denial,
                message: status.message().to_owned(),
            },
            None => Self::Call(Box::new(status)),
        }
    }
}

/// What a status of the server means for the node; none when it says nothing about it.
pub(crate) fn denial_of(status: &Status) -> Option<Denial> {
    use convert::Reason;
    match (convert::denial_reason(status), status.code()) {
        (Some(Reason::AgentBanned), _) => Some(Denial::Banned),
        (
            Some(
                Reason::AgentExpired
                | Reason::AgentNotAttested
                | Reason::AgentNotActive
                | Reason::AgentMustReattest,
            ),
            _,
        ) => Some(Denial::MustReattest),
        (_, Code::PermissionDenied | Code::InvalidArgument | Code::FailedPrecondition | Code::NotFound) => {
            Some(Denial::Other)
        }
        _ => None,
    }
}
