//! An attestation in which the server asks back: challenges and answers until the node has proved itself or not.
//!
//! Nothing of it is stored until the end, and whoever hangs up leaves nothing behind. Rounds, sizes and the time of each judgement are bounded by
//! `plugins/api`; here the whole is.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, stream};
use muster_pki::SecretBytes;
use muster_plugin_api::{AttestedNode, Moment, NodeChallenge, NodeStep, NodeVerifier, Shown};
use muster_proto::spire::server::agent::{
    AttestAgentRequest, AttestAgentResponse, attest_agent_request, attest_agent_response,
};
use tokio::time::Instant;
use tonic::{Code, Status, Streaming};

use super::attest::{self, Proof};
use crate::admission::Ticket;
use crate::api::{Caller, Context, Refusal};

/// How long the whole may take. A challenge is void after it.
const WITHIN: Duration = Duration::from_secs(30);

/// A conversation that was opened.
pub(super) struct Opened {
    pub(super) context: Arc<Context>,
    pub(super) caller: Caller,
    pub(super) verifier: Arc<dyn NodeVerifier>,
    pub(super) payload: SecretBytes,
    pub(super) csr: Vec<u8>,
    pub(super) room: Ticket,
}

struct Conversation {
    context: Arc<Context>,
    caller: Caller,
    verifier: Arc<dyn NodeVerifier>,
    csr: Vec<u8>,
    requests: Streaming<AttestAgentRequest>,
    /// None while a word is judged.
    turn: Option<Turn>,
    until: Instant,
    _room: Ticket,
}

/// Whose word is next.
enum Turn {
    /// Ours, on what the node showed first.
    Ours(SecretBytes),
    /// The node's, on a challenge.
    Theirs(Box<dyn NodeChallenge>),
}

impl Opened {
    /// What is answered, as the conversation goes on over `requests`.
    pub(super) fn answers(
        self,
        requests: Streaming<AttestAgentRequest>,
    ) -> impl Stream<Item = Result<AttestAgentResponse, Status>> + use<> {
        let Self {
            context,
            caller,
            verifier,
            payload,
            csr,
            room,
        } = self;
        let conversation = Conversation {
            context,
            caller,
            verifier,
            csr,
            requests,
            turn: Some(Turn::Ours(payload)),
            until: Instant::now() + WITHIN,
            _room: room,
        };
        stream::try_unfold(Some(conversation), |conversation| async {
            match conversation {
                Some(conversation) => conversation.answer().await.map(Some),
                None => Ok(None),
            }
        })
    }
}

impl Conversation {
    /// The next answer, and the conversation if it goes on.
    async fn answer(mut self) -> Result<(AttestAgentResponse, Option<Self>), Status> {
        let until = self.until;
        let judged = match tokio::time::timeout_at(until, self.judge()).await {
            Ok(judged) => judged,
            Err(_) => Err(Refusal::new(
                Code::DeadlineExceeded,
                format!("failed to attest: it took longer than {} s", WITHIN.as_secs()),
            )),
        };
        let step = match judged {
            Ok(step) => step,
            Err(refusal) => {
                let kind = self.verifier.kind();
                return Err(attest::refused(&self.context, &self.caller, Some(kind), refusal)
                    .await
                    .into());
            }
        };
        match step {
            NodeStep::Challenge { challenge, pending } => {
                self.turn = Some(Turn::Theirs(pending));
                let step = Some(attest_agent_response::Step::Challenge(challenge));
                Ok((AttestAgentResponse { step }, Some(self)))
            }
            NodeStep::Attested(node) => {
                let step = Some(attest_agent_response::Step::Result(self.let_in(node).await?));
                Ok((AttestAgentResponse { step }, None))
            }
        }
    }

    /// Judges what the node said last.
    async fn judge(&mut self) -> Result<NodeStep, Refusal> {
        match self.turn.take() {
            Some(Turn::Ours(payload)) => {
                let shown = Shown {
                    payload,
                    peer: self.caller.ip(),
                    moment: self.moment(),
                };
                Ok(self.verifier.begin(shown).await?)
            }
            Some(Turn::Theirs(pending)) => {
                let message = self.requests.message().await;
                let message = message.map_err(|status| {
                    Refusal::invalid("failed to attest: the node hung up instead of answering")
                        .because(status)
                })?;
                match message.and_then(|message| message.step) {
                    Some(attest_agent_request::Step::ChallengeResponse(answer)) => {
                        Ok(pending.judge(answer, self.moment()).await?)
                    }
                    _ => Err(Refusal::invalid(
                        "failed to attest: expected a challenge response",
                    )),
                }
            }
            None => Err(Refusal::internal("failed to attest: the conversation was over")),
        }
    }

    fn moment(&self) -> Moment {
        Moment {
            bundle: self.context.bundles.own(),
            now: self.context.clock.now(),
        }
    }

    /// The node has proved itself: it comes in, whoever still waits for the answer.
    async fn let_in(self, node: AttestedNode) -> Result<attest_agent_response::Result, Refusal> {
        let Self {
            context,
            caller,
            verifier,
            csr,
            ..
        } = self;
        let kind = verifier.kind();
        let own = Arc::clone(&context);
        let proof = Proof::Attested { kind, node, csr };
        let attested = async move { attest::attest(&own, &caller, proof).await };
        context.to_the_end(attested).await
    }
}
