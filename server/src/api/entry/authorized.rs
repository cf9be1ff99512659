//! SyncAuthorizedEntries, for SPIRE's agents: everything at once up to 500 entries, else revisions first and then what
//! the agent asks for by id.

use std::{sync::Arc, time::Duration, vec};

use futures_util::{Stream, stream};
use muster_identity::{Entry, EntryId};
use muster_proto::{
    convert,
    spire::{
        server::entry::{EntryRevision, SyncAuthorizedEntriesRequest, SyncAuthorizedEntriesResponse},
        types::EntryMask,
    },
};
use tokio::time::timeout;
use tonic::{Code, Status, Streaming};

use crate::{
    api::{Caller, Context, Refusal},
    registry::Registered,
};

/// How many entries, or revisions, an answer holds. Part of the contract: up to this many come without being asked for.
const PAGE: usize = 500;
/// The most ids in one request: what a message of 4 MiB could hold is no reason to answer it.
const MOST_IDS: usize = 10_000;
/// How long the agent may think between two requests. It asks by what it just read, so it has no reason to wait.
const IDLE: Duration = Duration::from_secs(30);

/// Where the conversation stands.
struct Conversation {
    context: Arc<Context>,
    caller: Caller,
    requests: Streaming<SyncAuthorizedEntriesRequest>,
    mask: Option<EntryMask>,
    next: Next,
}

/// What the agent gets next.
enum Next {
    /// What its first request comes to.
    Start,
    /// What its next request comes to.
    Request,
    /// A page of revisions of these.
    Revisions(vec::IntoIter<Arc<Registered>>),
    /// A page of these entries.
    Entries(vec::IntoIter<EntryId>),
    /// Nothing more is expected of it.
    End,
}

/// Answers each request by the newest view, if the agent's certificate counts in it: a deletion or a ban between two requests holds for the second (I4).
pub(super) fn sync(
    context: Arc<Context>,
    caller: Caller,
    requests: Streaming<SyncAuthorizedEntriesRequest>,
) -> impl Stream<Item = Result<SyncAuthorizedEntriesResponse, Status>> + Send {
    let conversation = Conversation {
        context,
        caller,
        requests,
        mask: None,
        next: Next::Start,
    };
    stream::try_unfold(conversation, |mut conversation| async move {
        Ok(conversation.answer().await?.map(|answer| (answer, conversation)))
    })
}

impl Conversation {
    async fn answer(&mut self) -> Result<Option<SyncAuthorizedEntriesResponse>, Status> {
        loop {
            match &mut self.next {
                Next::End => return Ok(None),
                Next::Revisions(set) => {
                    let entry_revisions = set.take(PAGE).map(|found| revision(&found.entry)).collect();
                    let more = set.len() > 0;
                    if !more {
                        self.next = Next::Request;
                    }
                    return Ok(Some(SyncAuthorizedEntriesResponse {
                        entry_revisions,
                        entries: vec![],
                        more,
                    }));
                }
                Next::Entries(_) => return Ok(Some(self.entries()?)),
                Next::Start | Next::Request => {
                    let request = timeout(IDLE, self.requests.message()).await;
                    let request = request.map_err(|_| {
                        Refusal::new(Code::DeadlineExceeded, "the agent asked for nothing for 30 s")
                    })??;
                    let Some(request) = request else { return Ok(None) };
                    if matches!(self.next, Next::Request) {
                        self.next = Next::Entries(asked(&request)?.into_iter());
                    } else if let Some(everything) = self.start(&request)? {
                        return Ok(Some(everything));
                    }
                }
            }
        }
    }

    /// Everything, if it is no more than a page; else the revisions are next.
    fn start(
        &mut self,
        request: &SyncAuthorizedEntriesRequest,
    ) -> Result<Option<SyncAuthorizedEntriesResponse>, Refusal> {
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
        self.mask = request.output_mask;
        let set = self.context.view_for(&self.caller)?.entitled_set();
        if set.len() > PAGE {
            self.next = Next::Revisions(set.into_iter());
            return Ok(None);
        }
        self.next = Next::End;
        let entries = set
            .iter()
            .map(|found| convert::entry_to_wire(&found.entry, self.mask.as_ref()));
        Ok(Some(SyncAuthorizedEntriesResponse {
            entries: entries.collect(),
            ..Default::default()
        }))
    }

    /// Entries by id. Those that are unknown or somebody else's are left out without a word: neither is told apart.
    fn entries(&mut self) -> Result<SyncAuthorizedEntriesResponse, Refusal> {
        let view = self.context.view_for(&self.caller)?;
        let Next::Entries(ids) = &mut self.next else {
            return Ok(SyncAuthorizedEntriesResponse::default());
        };
        let page: Vec<_> = ids.take(PAGE).collect();
        let found = view.entitled_among(&page).into_iter();
        let entries = found
            .map(|found| convert::entry_to_wire(&found.entry, self.mask.as_ref()))
            .collect();
        let more = ids.len() > 0;
        if !more {
            self.next = Next::Request;
        }
        Ok(SyncAuthorizedEntriesResponse {
            entry_revisions: vec![],
            entries,
            more,
        })
    }
}

fn asked(request: &SyncAuthorizedEntriesRequest) -> Result<Vec<EntryId>, Refusal> {
    if request.ids.len() > MOST_IDS {
        return Err(Refusal::invalid(format!(
            "ids: at most {MOST_IDS} may be asked for at once"
        )));
    }
    // What is no id is the id of nothing.
    Ok(request.ids.iter().filter_map(|id| id.parse().ok()).collect())
}

fn revision(entry: &Entry) -> EntryRevision {
    EntryRevision {
        id: entry.id.to_string(),
        revision_number: entry.revision_number,
        created_at: entry.created_at.as_secs(),
    }
}
