//! `spire.api.server.entry.v1.Entry`: registrations.

mod authorized;
mod change;
mod ground;
mod page;

use std::{pin::Pin, sync::Arc};

use futures_util::Stream;
use muster_audit::{Action, Event, Outcome};
use muster_identity::{EntryId, Verb};
use muster_proto::{
    convert::{self, EntryFilter},
    spire::{server::entry as wire, types},
};
use tonic::{Request, Response, Status, Streaming};

use super::{Caller, Context, Refusal, dismissal, until_dismissed};
use crate::sync::StreamKind;

/// The service.
pub struct EntryService {
    context: Arc<Context>,
}

impl EntryService {
    /// Makes the service.
    pub fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    /// Reads are recorded too, once a call: who looked at the registrations is part of the story.
    async fn record_read(&self, caller: &Caller, what: &str, found: usize) -> Result<(), Refusal> {
        let event = Event::new(caller.actor(), Action::EntryRead, Outcome::Done)
            .fact("call", what)
            .fact("entries", found);
        self.context.audit.record(event).await?;
        Ok(())
    }
}

/// The id of an entry that must be there. What can't be one is the id of nothing, as with SPIRE.
fn known_id(id: &str) -> Result<EntryId, Refusal> {
    id.parse().map_err(|_| Refusal::not_found("entry not found"))
}

#[tonic::async_trait]
impl wire::entry_server::Entry for EntryService {
    async fn count_entries(
        &self,
        request: Request<wire::CountEntriesRequest>,
    ) -> Result<Response<wire::CountEntriesResponse>, Status> {
        let caller = Caller::of(&request)?;
        let filter = EntryFilter::try_from(request.get_ref().filter.as_ref());
        let filter = page::filter(&self.context.trust_domain, filter)?;
        let view = self.context.registry.view();
        let scope = self.context.scope_for(&caller, &view, Verb::EntryRead)?;
        let found = page::matching(&view, &filter, None)
            .filter(|found| scope.shows(&found.entry.spec))
            .count();
        self.record_read(&caller, "CountEntries", found).await?;
        Ok(Response::new(wire::CountEntriesResponse {
            count: i32::try_from(found).unwrap_or(i32::MAX),
        }))
    }

    async fn list_entries(
        &self,
        request: Request<wire::ListEntriesRequest>,
    ) -> Result<Response<wire::ListEntriesResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let filter = EntryFilter::try_from(request.filter.as_ref());
        let filter = page::filter(&self.context.trust_domain, filter)?;
        let page = page::Page::new(request.page_size, &request.page_token)?;
        let view = self.context.registry.view();
        let scope = self.context.scope_for(&caller, &view, Verb::EntryRead)?;
        let (entries, next_page_token) = page.of(&view, &scope, &filter, request.output_mask.as_ref());
        self.record_read(&caller, "ListEntries", entries.len()).await?;
        Ok(Response::new(wire::ListEntriesResponse {
            entries,
            next_page_token,
        }))
    }

    async fn get_entry(
        &self,
        request: Request<wire::GetEntryRequest>,
    ) -> Result<Response<types::Entry>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        if request.id.is_empty() {
            return Err(Refusal::invalid("missing ID").into());
        }
        let id = known_id(&request.id)?;
        let view = self.context.registry.view();
        let scope = self.context.scope_for(&caller, &view, Verb::EntryRead)?;
        let found = view
            .entry(&id)
            .filter(|found| scope.shows(&found.entry.spec))
            .cloned();
        self.record_read(&caller, "GetEntry", usize::from(found.is_some()))
            .await?;
        let found = found.ok_or_else(|| Refusal::not_found("entry not found"))?;
        Ok(Response::new(convert::entry_to_wire(
            &found.entry,
            request.output_mask.as_ref(),
        )))
    }

    async fn batch_create_entry(
        &self,
        request: Request<wire::BatchCreateEntryRequest>,
    ) -> Result<Response<wire::BatchCreateEntryResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let mask = request.output_mask;
        let (context, entries) = (Arc::clone(&self.context), request.entries);
        let created = async move { change::create(&context, &caller, &entries).await };
        let outcomes = self.context.to_the_end(created).await?;
        let results = outcomes
            .into_iter()
            .map(|item| wire::batch_create_entry_response::Result {
                entry: item
                    .entry
                    .map(|entry| convert::entry_to_wire(&entry, mask.as_ref())),
                status: Some(item.status),
            })
            .collect();
        Ok(Response::new(wire::BatchCreateEntryResponse { results }))
    }

    async fn batch_update_entry(
        &self,
        request: Request<wire::BatchUpdateEntryRequest>,
    ) -> Result<Response<wire::BatchUpdateEntryResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let mask = request.output_mask;
        let context = Arc::clone(&self.context);
        let updated = async move {
            change::update(&context, &caller, &request.entries, request.input_mask.as_ref()).await
        };
        let outcomes = self.context.to_the_end(updated).await?;
        let results = outcomes
            .into_iter()
            .map(|item| wire::batch_update_entry_response::Result {
                entry: item
                    .entry
                    .map(|entry| convert::entry_to_wire(&entry, mask.as_ref())),
                status: Some(item.status),
            })
            .collect();
        Ok(Response::new(wire::BatchUpdateEntryResponse { results }))
    }

    async fn batch_delete_entry(
        &self,
        request: Request<wire::BatchDeleteEntryRequest>,
    ) -> Result<Response<wire::BatchDeleteEntryResponse>, Status> {
        let caller = Caller::of(&request)?;
        let ids = request.into_inner().ids;
        let (context, going) = (Arc::clone(&self.context), ids.clone());
        let deleted = async move { change::delete(&context, &caller, &going).await };
        let outcomes = self.context.to_the_end(deleted).await?;
        let results = ids
            .into_iter()
            .zip(outcomes)
            .map(|(id, item)| wire::batch_delete_entry_response::Result {
                id,
                status: Some(item.status),
            })
            .collect();
        Ok(Response::new(wire::BatchDeleteEntryResponse { results }))
    }

    async fn get_authorized_entries(
        &self,
        request: Request<wire::GetAuthorizedEntriesRequest>,
    ) -> Result<Response<wire::GetAuthorizedEntriesResponse>, Status> {
        let caller = Caller::of(&request)?;
        let mask = request.get_ref().output_mask;
        let view = self.context.view_for(&caller)?;
        let entries = view
            .entitled_set()
            .into_iter()
            .map(|found| convert::entry_to_wire(&found.entry, mask.as_ref()))
            .collect();
        Ok(Response::new(wire::GetAuthorizedEntriesResponse { entries }))
    }

    type SyncAuthorizedEntriesStream =
        Pin<Box<dyn Stream<Item = Result<wire::SyncAuthorizedEntriesResponse, Status>> + Send>>;

    async fn sync_authorized_entries(
        &self,
        request: Request<Streaming<wire::SyncAuthorizedEntriesRequest>>,
    ) -> Result<Response<Self::SyncAuthorizedEntriesStream>, Status> {
        let caller = Caller::of(&request)?;
        let dismissed = dismissal(&self.context, &caller, StreamKind::AuthorizedEntries)?;
        let answers = authorized::sync(Arc::clone(&self.context), caller.clone(), request.into_inner());
        let answers = until_dismissed(Arc::clone(&self.context), caller, answers, dismissed);
        Ok(Response::new(Box::pin(answers)))
    }
}
