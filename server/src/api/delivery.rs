//! `muster.entry.v1.Delivery`: whether entries have arrived on the nodes.

mod places;

use std::{collections::HashMap, sync::Arc, time::Duration};

use muster_identity::{EntryId, Revision, SpiffeId, UnixTime, Verb};
use muster_proto::{
    convert,
    delivery::{FollowRequest, FollowResponse, delivery_server::Delivery},
};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use self::places::{Place, Places};
use super::{Caller, Context, Refusal};

/// How many entries may be followed by one call.
const MOST: usize = 1_000;
/// The least time between two looks: of a thousand nodes that acknowledge at once each wakes everybody who follows. A person sees no difference.
const PAUSE: Duration = Duration::from_millis(100);
/// How many nodes are looked at before others have their turn on the thread: each may cost a look at every entry that is followed.
const AT_A_TIME: usize = 8;
/// How long an answer may stay unread.
const UNREAD: Duration = Duration::from_secs(10);

/// Follows entries to the nodes.
pub struct DeliveryService {
    context: Arc<Context>,
    places: Places,
}

impl DeliveryService {
    /// Makes the service.
    pub fn new(context: Arc<Context>) -> Self {
        let places = Places::default();
        Self { context, places }
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
        let subject = caller.subject();
        let subject = subject.ok_or_else(|| Refusal::internal("whoever follows entries has a name"))?;
        let place = self.places.take(subject)?;
        let (answers, answered) = mpsc::channel(1);
        let context = Arc::clone(&self.context);
        self.context
            .spawner
            .spawn_for_peer("entry delivery", follow(context, caller, ids, answers, place));
        Ok(Response::new(ReceiverStream::new(answered)))
    }
}

/// Answers whenever a number changes, until all is done, nobody listens any more, or the caller is no administrator any more.
async fn follow(
    context: Arc<Context>,
    caller: Caller,
    ids: Vec<EntryId>,
    answers: mpsc::Sender<Result<FollowResponse, Status>>,
    _place: Place,
) {
    // Subscribed before the first look, so that nothing falls between.
    let (mut installed, mut commits) = (context.connections.watch(), context.registry.subscribe());
    let stop = context.spawner.stop();
    // One second on: a certificate counts to the end of its last second.
    let ends = caller.svid().map_or(UnixTime::MAX, |svid| svid.not_after());
    let ended = ends.saturating_add(Duration::from_secs(1));
    let (mut told, mut tally) = (None, Tally::default());
    loop {
        installed.mark_unchanged();
        commits.mark_unchanged();
        let looked = Instant::now();
        let counted = match context.still_admin(&caller) {
            Ok(()) => progress(&context, &caller, &ids, &mut tally).await,
            Err(refusal) => Err(refusal),
        };
        // Once more: others had their turns while it was counted.
        let answer = match context.still_admin(&caller).and(counted) {
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
            () = due(looked, &mut installed, &mut commits) => {}
        }
    }
}

/// Returns when something may have changed, and no sooner than a pause after the last look.
async fn due<T>(looked: Instant, installed: &mut watch::Receiver<()>, commits: &mut watch::Receiver<T>) {
    tokio::select! {
        _ = installed.changed() => {}
        _ = commits.changed() => {}
    }
    tokio::time::sleep_until(looked + PAUSE).await;
}

/// How many connected nodes are entitled to one of the entries, and how many of them have it as it is now.
async fn progress(
    context: &Context,
    caller: &Caller,
    ids: &[EntryId],
    tally: &mut Tally,
) -> Result<FollowResponse, Refusal> {
    let nodes = context.connections.installed();
    // The view is taken after the nodes' positions: a position can't be ahead of the view it is compared with.
    let view = context.registry.view();
    let scope = context.scope_for(caller, &view, Verb::EntryRead)?;
    let shown = |id| view.entry(id).is_some_and(|found| scope.shows(&found.entry.spec));
    if let Some(id) = ids.iter().find(|id| !shown(*id)) {
        return Err(Refusal::not_found(format!("entry {id} not found")));
    }
    let counting = tally.count(view.position().revision, nodes, |node| {
        let entries = view.entitled_among(node, ids).into_iter();
        entries.map(|entry| entry.version).max()
    });
    Ok(counting.await)
}

/// What each node is to have, as of one view: an acknowledgement changes nothing of it, so that it costs a comparison per node and not a walk through the entries.
#[derive(Default)]
struct Tally {
    at: Option<Revision>,
    wanted: HashMap<SpiffeId, Option<Revision>>,
}

impl Tally {
    /// Counts the nodes, each with how far it has come; `wanted` says which revision of the view `at` a node has to have reached, if any.
    async fn count(
        &mut self,
        at: Revision,
        nodes: Vec<(SpiffeId, Revision)>,
        wanted: impl Fn(&SpiffeId) -> Option<Revision>,
    ) -> FollowResponse {
        if self.at != Some(at) {
            self.at = Some(at);
            self.wanted.clear();
        }
        // Nodes that went leave nothing behind.
        let mut held = std::mem::take(&mut self.wanted);
        let (mut entitled, mut installed) = (0, 0);
        for (number, (node, reached)) in nodes.into_iter().enumerate() {
            if number % AT_A_TIME == AT_A_TIME - 1 {
                tokio::task::yield_now().await;
            }
            let revision = held.remove(&node).or_else(|| self.wanted.get(&node).copied());
            let revision = revision.unwrap_or_else(|| wanted(&node));
            if let Some(revision) = revision {
                entitled += 1;
                installed += u32::from(revision <= reached);
            }
            self.wanted.insert(node, revision);
        }
        FollowResponse {
            entitled,
            installed,
            done: entitled == installed,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn node(number: u64) -> SpiffeId {
        format!("spiffe://example.org/spire/agent/join_token/{number}")
            .parse()
            .unwrap()
    }

    fn nodes(installed: u64) -> Vec<(SpiffeId, Revision)> {
        let reached = |number| Revision(if number < installed { 7 } else { 6 });
        (0..100).map(|number| (node(number), reached(number))).collect()
    }

    #[tokio::test]
    async fn an_acknowledgement_costs_no_walk_through_the_entries() {
        let walks = Cell::new(0);
        let wanted = |id: &SpiffeId| {
            walks.set(walks.get() + 1);
            (*id != node(99)).then_some(Revision(7))
        };
        let mut tally = Tally::default();
        for installed in 0..100 {
            let told = tally.count(Revision(7), nodes(installed), wanted).await;
            assert_eq!((told.entitled, u64::from(told.installed)), (99, installed));
            assert_eq!(told.done, installed == 99);
        }
        assert_eq!(walks.get(), 100, "once for each node");
        // One that comes is looked at, and what it is to have may be another thing after a commit.
        let mut more = nodes(99);
        more.push((node(100), Revision(7)));
        assert_eq!(tally.count(Revision(7), more, wanted).await.entitled, 100);
        assert_eq!(walks.get(), 101);
        tally.count(Revision(8), nodes(99), wanted).await;
        assert_eq!(walks.get(), 201);
    }

    #[tokio::test]
    async fn others_have_their_turn_while_many_nodes_are_counted() {
        let (counted, turns) = (Cell::new(false), Cell::new(0));
        let counting = async {
            let mut tally = Tally::default();
            tally.count(Revision(7), nodes(0), |_| Some(Revision(7))).await;
            counted.set(true);
        };
        let other = async {
            while !counted.get() {
                turns.set(turns.get() + 1);
                tokio::task::yield_now().await;
            }
        };
        tokio::join!(counting, other);
        assert!(turns.get() >= 100 / AT_A_TIME - 1, "{} turns", turns.get());
    }

    #[tokio::test]
    async fn however_many_acknowledge_it_is_looked_once_in_a_pause() {
        let (acknowledged, mut installed) = watch::channel(());
        let (_committed, mut commits) = watch::channel(());
        let mut acknowledgements = 0;
        let acknowledging = async {
            loop {
                acknowledged.send_replace(());
                acknowledgements += 1;
                tokio::task::yield_now().await;
            }
        };
        let began = Instant::now();
        let following = async {
            for _ in 0..3 {
                installed.mark_unchanged();
                due(Instant::now(), &mut installed, &mut commits).await;
            }
        };
        tokio::select! {
            () = acknowledging => {}
            () = following => {}
        }
        assert!(began.elapsed() >= 3 * PAUSE, "after {acknowledgements}");
    }
}
