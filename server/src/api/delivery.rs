//! `muster.entry.v1.Delivery`: whether entries have arrived on the nodes.

use std::{sync::Arc, time::Duration};

use muster_identity::{EntryId, UnixTime, Verb};
use muster_proto::{
    convert,
    delivery::{FollowRequest, FollowResponse, delivery_server::Delivery},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{Caller, Context, Refusal};

/// How many entries may be followed by one call.
const MOST: usize = 1_000;
/// How long an answer may stay unread.
const UNREAD: Duration = Duration::from_secs(10);

/// Follows entries to the nodes.
pub struct DeliveryService {
    context: Arc<Context>,
}

impl DeliveryService {
    /// Makes the service.
    pub fn new(context: Arc<Context>) -> Self {
        Self { context }
    }
}

#[tonic::async_trait]
impl Delivery for DeliveryService {
    type FollowStream = ReceiverStream<Result<FollowResponse, Status>>;

    async fn follow(&self, request: Request<FollowRequest>) -> Result<Response<Self::FollowStream>, Status> {
        let caller = Caller::of(&request)?;
        let ids = &request.get_ref().entry_ids;
        if ids.is_empty() || ids.len() > MOST {
            return Err(Refusal::invalid(format!("entry_ids: name 1 to {MOST}")).into());
        }
        let ids: Vec<EntryId> = ids
            .iter()
            .map(|id| convert::entry_id("entry_ids", id))
            .collect::<Result<_, _>>()
            .map_err(Refusal::from)?;
        let (answers, answered) = mpsc::channel(1);
        let context = Arc::clone(&self.context);
        self.context
            .spawner
            .spawn_for_peer("entry delivery", follow(context, caller, ids, answers));
        Ok(Response::new(ReceiverStream::new(answered)))
    }
}

/// Answers whenever a number changes, until all is done, nobody listens any more, or the caller is no administrator any more.
async fn follow(
    context: Arc<Context>,
    caller: Caller,
    ids: Vec<EntryId>,
    answers: mpsc::Sender<Result<FollowResponse, Status>>,
) {
    // Subscribed before the first look, so that nothing falls between.
    let (mut installed, mut commits) = (context.connections.watch(), context.registry.subscribe());
    let stop = context.spawner.stop();
    // One second on: a certificate counts to the end of its last second.
    let ends = caller.svid().map_or(UnixTime::MAX, |svid| svid.not_after());
    let ended = ends.saturating_add(Duration::from_secs(1));
    let mut told = None;
    loop {
        installed.mark_unchanged();
        commits.mark_unchanged();
        let answer = match context
            .still_admin(&caller)
            .and_then(|()| progress(&context, &caller, &ids))
        {
            Ok(answer) if told == Some(answer) => None,
            answer => Some(answer),
        };
        if let Some(answer) = answer {
            let last = answer.as_ref().map_or(true, |answer| answer.done);
            told = answer.as_ref().ok().copied();
            let answer = answer.map_err(Refusal::into_status);
            tokio::select! {
                biased;
                () = stop.ordered() => return,
                sent = tokio::time::timeout(UNREAD, answers.send(answer)) => match sent {
                    Ok(Ok(())) if !last => {}
                    _ => return,
                },
            }
        }
        tokio::select! {
            () = stop.ordered() => return,
            () = answers.closed() => return,
            () = context.clock.sleep_until(ended) => {}
            _ = installed.changed() => {}
            _ = commits.changed() => {}
        }
    }
}

/// How many connected nodes are entitled to one of the entries, and how many of them have it as it is now.
fn progress(context: &Context, caller: &Caller, ids: &[EntryId]) -> Result<FollowResponse, Refusal> {
    let nodes = context.connections.installed();
    // The view is taken after the nodes' positions: a position can't be ahead of the view it is compared with.
    let view = context.registry.view();
    let scope = context.scope_for(caller, &view, Verb::EntryRead)?;
    let shown = |id| view.entry(id).is_some_and(|found| scope.shows(&found.entry.spec));
    if let Some(id) = ids.iter().find(|id| !shown(*id)) {
        return Err(Refusal::not_found(format!("entry {id} not found")));
    }
    let (mut entitled, mut installed) = (0, 0);
    for (node, revision) in &nodes {
        let mut versions = ids
            .iter()
            .filter_map(|id| view.entitled(node, id))
            .map(|entry| entry.version)
            .peekable();
        if versions.peek().is_some() {
            entitled += 1;
            installed += u32::from(versions.all(|version| version <= *revision));
        }
    }
    Ok(FollowResponse {
        entitled,
        installed,
        done: entitled == installed,
    })
}
