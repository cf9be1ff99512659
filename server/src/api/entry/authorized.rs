//! SyncAuthorizedEntries, for SPIRE's agents: everything at once up to 500 entries, else revisions first and then what
//! the agent asks for by id.

use std::{collections::VecDeque, sync::Arc};

use futures_util::{Stream, stream};
use muster_identity::{Entry, EntryId, SpiffeId};
use muster_proto::{
    convert,
    spire::{
        server::entry::{EntryRevision, SyncAuthorizedEntriesRequest, SyncAuthorizedEntriesResponse},
        types::EntryMask,
    },
};
use tonic::{Status, Streaming};

use crate::{api::Refusal, registry::View};

/// How many entries, or revisions, an answer holds. Part of the contract: up to this many come without being asked for.
const PAGE: usize = 500;

/// The most ids in one request: what a message of 4 MiB could hold is no reason to answer it.
const MOST_IDS: usize = 10_000;

/// Where the conversation stands.
struct Conversation {
    view: Arc<View>,
    node: SpiffeId,
    requests: Streaming<SyncAuthorizedEntriesRequest>,
    mask: Option<EntryMask>,
    started: bool,
    /// Nothing more is expected of the agent.
    complete: bool,
    answers: VecDeque<SyncAuthorizedEntriesResponse>,
}

/// Answers over one view: what changes meanwhile is the next call's business.
pub(super) fn sync(
    view: Arc<View>,
    node: SpiffeId,
    requests: Streaming<SyncAuthorizedEntriesRequest>,
) -> impl Stream<Item = Result<SyncAuthorizedEntriesResponse, Status>> + Send {
    let conversation = Conversation {
        view,
        node,
        requests,
        mask: None,
        started: false,
        complete: false,
        answers: VecDeque::new(),
    };
    stream::try_unfold(conversation, |mut conversation| async move {
        Ok(conversation.next().await?.map(|answer| (answer, conversation)))
    })
}

impl Conversation {
    async fn next(&mut self) -> Result<Option<SyncAuthorizedEntriesResponse>, Status> {
        while self.answers.is_empty() && !self.complete {
            let Some(request) = self.requests.message().await? else {
                return Ok(None);
            };
            if self.started {
                self.give(&request)?;
            } else {
                self.start(&request)?;
            }
        }
        Ok(self.answers.pop_front())
    }

    fn start(&mut self, request: &SyncAuthorizedEntriesRequest) -> Result<(), Refusal> {
        if !request.ids.is_empty() {
            return Err(Refusal::invalid(
                "specifying IDs on initial request is not supported",
            ));
        }
        if request
            .output_mask
            .as_ref()
            .is_some_and(|mask| !mask.revision_number)
        {
            return Err(Refusal::invalid("revision number cannot be masked"));
        }
        self.started = true;
        self.mask = request.output_mask;
        let set = self.view.entitled_set(&self.node);
        if set.len() <= PAGE {
            let entries = set
                .iter()
                .map(|found| convert::entry_to_wire(&found.entry, self.mask.as_ref()))
                .collect();
            self.answers.push_back(SyncAuthorizedEntriesResponse {
                entries,
                ..Default::default()
            });
            self.complete = true;
            return Ok(());
        }
        let revisions: Vec<EntryRevision> = set.iter().map(|found| revision(&found.entry)).collect();
        let mut pages = revisions.chunks(PAGE).peekable();
        while let Some(page) = pages.next() {
            self.answers.push_back(SyncAuthorizedEntriesResponse {
                entry_revisions: page.to_vec(),
                entries: vec![],
                more: pages.peek().is_some(),
            });
        }
        Ok(())
    }

    /// Entries by id. Those that are unknown or somebody else's are left out without a word: neither is told apart.
    fn give(&mut self, request: &SyncAuthorizedEntriesRequest) -> Result<(), Refusal> {
        if request.ids.len() > MOST_IDS {
            return Err(Refusal::invalid(format!(
                "ids: at most {MOST_IDS} may be asked for at once"
            )));
        }
        let found: Vec<Entry> = request
            .ids
            .iter()
            .filter_map(|id| id.parse::<EntryId>().ok())
            .filter_map(|id| {
                self.view
                    .entitled(&self.node, &id)
                    .map(|found| found.entry.clone())
            })
            .collect();
        let mut pages = found.chunks(PAGE).peekable();
        if pages.peek().is_none() {
            self.answers.push_back(SyncAuthorizedEntriesResponse::default());
        }
        while let Some(page) = pages.next() {
            self.answers.push_back(SyncAuthorizedEntriesResponse {
                entry_revisions: vec![],
                entries: page
                    .iter()
                    .map(|entry| convert::entry_to_wire(entry, self.mask.as_ref()))
                    .collect(),
                more: pages.peek().is_some(),
            });
        }
        Ok(())
    }
}

fn revision(entry: &Entry) -> EntryRevision {
    EntryRevision {
        id: entry.id.to_string(),
        revision_number: entry.revision_number,
        created_at: entry.created_at.as_secs(),
    }
}
