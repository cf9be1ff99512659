//! `muster.grant.v1.Grants`: who may do a part of what an administrator may.

mod change;
mod page;

use std::sync::Arc;

use muster_audit::{Action, Event, Outcome};
use muster_identity::{GrantName, Verb};
use muster_proto::convert;
use muster_proto::grant as wire;
use tonic::{Request, Response, Status};

use super::{Caller, Context, Refusal};
use crate::registry::{GrantRecord, View};

/// The service.
pub struct GrantService {
    context: Arc<Context>,
}

impl GrantService {
    /// Makes the service.
    pub fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    /// The newest view, if the caller may look at grants still.
    fn view_for(&self, caller: &Caller) -> Result<Arc<View>, Refusal> {
        let view = self.context.registry.view();
        self.context.scope_for(caller, &view, Verb::GrantRead)?;
        Ok(view)
    }

    async fn record_read(&self, caller: &Caller, found: usize) -> Result<(), Refusal> {
        let event = Event::new(caller.actor(), Action::GrantRead, Outcome::Done).fact("grants", found);
        self.context.record(event).await
    }
}

#[tonic::async_trait]
impl wire::grants_server::Grants for GrantService {
    async fn create(&self, request: Request<wire::CreateRequest>) -> Result<Response<wire::Grant>, Status> {
        let caller = Caller::of(&request)?;
        let (context, grant) = (Arc::clone(&self.context), request.into_inner().grant);
        let created = async move { change::create(&context, &caller, grant.as_ref()).await };
        Ok(Response::new(self.context.to_the_end(created).await?))
    }

    async fn list(
        &self,
        request: Request<wire::ListRequest>,
    ) -> Result<Response<wire::ListResponse>, Status> {
        let caller = Caller::of(&request)?;
        let page = page::Page::asked(request.get_ref())?;
        let view = self.view_for(&caller)?;
        let (grants, next_page_token) = page.of(&view);
        self.record_read(&caller, grants.len()).await?;
        Ok(Response::new(wire::ListResponse {
            grants,
            next_page_token,
        }))
    }

    async fn get(&self, request: Request<wire::GetRequest>) -> Result<Response<wire::Grant>, Status> {
        let caller = Caller::of(&request)?;
        let name = name(&request.get_ref().name)?;
        let view = self.view_for(&caller)?;
        let found = view.grant(&name);
        self.record_read(&caller, usize::from(found.is_some())).await?;
        let found = found.ok_or_else(not_found)?;
        Ok(Response::new(to_wire(&view, found)))
    }

    async fn update(&self, request: Request<wire::UpdateRequest>) -> Result<Response<wire::Grant>, Status> {
        let caller = Caller::of(&request)?;
        let (context, request) = (Arc::clone(&self.context), request.into_inner());
        let updated = async move { change::update(&context, &caller, &request).await };
        Ok(Response::new(self.context.to_the_end(updated).await?))
    }

    async fn delete(
        &self,
        request: Request<wire::DeleteRequest>,
    ) -> Result<Response<wire::DeleteResponse>, Status> {
        let caller = Caller::of(&request)?;
        let (context, request) = (Arc::clone(&self.context), request.into_inner());
        let deleted = async move { change::delete(&context, &caller, &request.name).await };
        self.context.to_the_end(deleted).await?;
        Ok(Response::new(wire::DeleteResponse {}))
    }
}

/// A grant as it is told, with what the server alone says of it.
fn to_wire(view: &View, record: &GrantRecord) -> wire::Grant {
    wire::Grant {
        entries: u32::try_from(view.entries_made_by(&record.grant.name)).unwrap_or(u32::MAX),
        version: record.version.0,
        created_at: record.created_at.as_secs(),
        ..convert::grant_to_wire(&record.grant)
    }
}

fn name(text: &str) -> Result<GrantName, Refusal> {
    text.parse()
        .map_err(|error| Refusal::invalid(format!("name: {error}")))
}

fn not_found() -> Refusal {
    Refusal::not_found("grant not found")
}
