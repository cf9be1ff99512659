//! `spire.api.server.agent.v1.Agent`: nodes, and the join tokens that let them in.

mod attest;
mod conversation;
mod manage;
mod page;
mod token;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, stream};
use muster_audit::{Action, Event, Outcome};
use muster_identity::Verb;
use muster_proto::convert::NodeFilter;
use muster_proto::spire::server::agent::{
    AttestAgentRequest, AttestAgentResponse, BanAgentRequest, CountAgentsRequest, CountAgentsResponse,
    CreateJoinTokenRequest, DeleteAgentRequest, GetAgentRequest, ListAgentsRequest, ListAgentsResponse,
    PostStatusRequest, PostStatusResponse, RenewAgentRequest, RenewAgentResponse, agent_server::Agent,
    attest_agent_request, attest_agent_response,
};
use muster_proto::spire::types;
use tonic::{Code, Request, Response, Status, Streaming};

use super::limits::Limited;
use super::{Caller, Context, Refusal};
use attest::Opening;

/// How long a node may take for its first message: it stands at the door without a certificate.
const PATIENCE: Duration = Duration::from_secs(10);

/// The service.
pub struct AgentService {
    context: Arc<Context>,
}

impl AgentService {
    /// Makes the service.
    pub fn new(context: Arc<Context>) -> Self {
        Self { context }
    }
}

#[tonic::async_trait]
impl Agent for AgentService {
    async fn count_agents(
        &self,
        request: Request<CountAgentsRequest>,
    ) -> Result<Response<CountAgentsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let filter = NodeFilter::try_from(request.get_ref().filter.as_ref()).map_err(Refusal::from)?;
        let view = self.context.registry.view();
        let scope = self.context.scope_for(&caller, &view, Verb::NodeRead)?;
        let count = page::matching(&view, &scope, &filter, None).count();
        Ok(Response::new(CountAgentsResponse {
            count: i32::try_from(count).unwrap_or(i32::MAX),
        }))
    }

    async fn list_agents(
        &self,
        request: Request<ListAgentsRequest>,
    ) -> Result<Response<ListAgentsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let filter = NodeFilter::try_from(request.filter.as_ref()).map_err(Refusal::from)?;
        let page = page::Page::new(request.page_size, &request.page_token)?;
        let mask = request.output_mask.as_ref();
        let view = self.context.registry.view();
        let scope = self.context.scope_for(&caller, &view, Verb::NodeRead)?;
        let (agents, next_page_token) = page.of(&view, &scope, &filter, mask);
        let event = Event::new(caller.actor(), Action::NodeRead, Outcome::Done).fact("nodes", agents.len());
        self.context.record(event).await?;
        Ok(Response::new(ListAgentsResponse {
            agents,
            next_page_token,
        }))
    }

    async fn get_agent(&self, request: Request<GetAgentRequest>) -> Result<Response<types::Agent>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let view = self.context.registry.view();
        let scope = self.context.scope_for(&caller, &view, Verb::NodeRead)?;
        let node = manage::find(&view, &scope, Verb::NodeRead, request.id.as_ref())?;
        Ok(Response::new(page::to_wire(&node, request.output_mask.as_ref())))
    }

    async fn delete_agent(&self, request: Request<DeleteAgentRequest>) -> Result<Response<()>, Status> {
        let caller = Caller::of(&request)?;
        let (context, id) = (Arc::clone(&self.context), request.into_inner().id);
        let evicted = async move { manage::evict(&context, &caller, id.as_ref()).await };
        self.context.to_the_end(evicted).await?;
        Ok(Response::new(()))
    }

    async fn ban_agent(&self, request: Request<BanAgentRequest>) -> Result<Response<()>, Status> {
        let caller = Caller::of(&request)?;
        let (context, id) = (Arc::clone(&self.context), request.into_inner().id);
        let banned = async move { manage::ban(&context, &caller, id.as_ref()).await };
        self.context.to_the_end(banned).await?;
        Ok(Response::new(()))
    }

    type AttestAgentStream = Pin<Box<dyn Stream<Item = Result<AttestAgentResponse, Status>> + Send>>;

    async fn attest_agent(
        &self,
        request: Request<Streaming<AttestAgentRequest>>,
    ) -> Result<Response<Self::AttestAgentStream>, Status> {
        let caller = Caller::of(&request)?;
        self.context.limits.wait(Limited::Attest, &caller, 1).await?;
        let mut requests = request.into_inner();
        let first = tokio::time::timeout(PATIENCE, requests.message()).await;
        let first = first
            .map_err(|_| Refusal::new(Code::DeadlineExceeded, "the attestation did not begin in 10 s"))??;
        let context = Arc::clone(&self.context);
        let params = match first.and_then(|first| first.step) {
            Some(attest_agent_request::Step::Params(params)) => params,
            _ => return Err(Refusal::invalid("malformed param: missing params").into()),
        };
        match attest::open(&context, &caller, params) {
            Ok(Opening::Whole(proof)) => {
                let attested = async move { attest::attest(&context, &caller, proof).await };
                let result = self.context.to_the_end(attested).await?;
                let step = Some(attest_agent_response::Step::Result(result));
                let answer = Ok(AttestAgentResponse { step });
                Ok(Response::new(Box::pin(stream::iter([answer]))))
            }
            Ok(Opening::Conversation {
                verifier,
                payload,
                csr,
                room,
            }) => {
                let opening = conversation::Opened {
                    context,
                    caller,
                    verifier,
                    payload,
                    csr,
                    room,
                };
                Ok(Response::new(Box::pin(opening.answers(requests))))
            }
            Err(refusal) => Err(attest::refused(&context, &caller, None, refusal).await.into()),
        }
    }

    async fn renew_agent(
        &self,
        request: Request<RenewAgentRequest>,
    ) -> Result<Response<RenewAgentResponse>, Status> {
        let caller = Caller::of(&request)?;
        self.context.limits.wait(Limited::Csr, &caller, 1).await?;
        let (context, request) = (Arc::clone(&self.context), request.into_inner());
        let renewed = async move { attest::renew(&context, &caller, request).await };
        let svid = self.context.to_the_end(renewed).await?;
        Ok(Response::new(RenewAgentResponse { svid: Some(svid) }))
    }

    async fn create_join_token(
        &self,
        request: Request<CreateJoinTokenRequest>,
    ) -> Result<Response<types::JoinToken>, Status> {
        let caller = Caller::of(&request)?;
        let (context, request) = (Arc::clone(&self.context), request.into_inner());
        let created = async move { token::create(&context, &caller, request).await };
        Ok(Response::new(self.context.to_the_end(created).await?))
    }

    async fn post_status(
        &self,
        request: Request<PostStatusRequest>,
    ) -> Result<Response<PostStatusResponse>, Status> {
        let caller = Caller::of(&request)?;
        self.context.limits.wait(Limited::PostStatus, &caller, 1).await?;
        manage::note_version(&self.context, &caller, request.into_inner().agent_version).await?;
        Ok(Response::new(PostStatusResponse {}))
    }
}
