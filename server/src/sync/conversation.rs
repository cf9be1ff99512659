use std::{convert::Infallible, sync::Arc, time::Duration};

use muster_audit::{Action, Event, Object, Outcome};
use muster_identity::{Position, SpiffeId};
use muster_proto::{
    convert,
    node::{self, Plan, sync_request, sync_response},
};
use tokio::time::{Instant, interval_at, timeout, timeout_at};
use tonic::{Code, Streaming};
use tracing::{info, warn};

use super::{comparison::Comparison, connections::Connected, federated::Federated, messages, outlet::Inlet};
use crate::{
    api::{Caller, Context, Dismissal, Refusal},
    nodes::NodeView,
    registry::{Delta, Mail, View},
};

/// A node that hears nothing for three of these takes the stream for dead.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// How long a node has, in all, for its first message and for what it holds.
const GREETING: Duration = Duration::from_secs(30);
/// We want to hear of keys that a foreign bundle lacks.
const UNKNOWN_KEY: &str = "unknown-key";
/// How long a node may leave everything unread that it is sent.
const UNREAD: Duration = Duration::from_secs(10);

/// One node's Sync stream.
pub(crate) struct Conversation {
    context: Arc<Context>,
    caller: Caller,
    id: SpiffeId,
    requests: Streaming<node::SyncRequest>,
    inlet: Inlet<node::SyncResponse>,
    connected: Connected,
    /// Which bundles the node has to do with, and was told.
    federated: Federated,
}

/// Why a stream ends.
enum End {
    /// The node is gone, or the server stops.
    Quiet,
    /// The node is told.
    Told(Refusal),
}

impl<T: Into<Refusal>> From<T> for End {
    fn from(refusal: T) -> Self {
        Self::Told(refusal.into())
    }
}

impl Conversation {
    /// A stream that has just been opened by a node which the door let in.
    pub(crate) fn new(
        context: Arc<Context>,
        caller: Caller,
        requests: Streaming<node::SyncRequest>,
        inlet: Inlet<node::SyncResponse>,
    ) -> Result<Self, Refusal> {
        let id = caller.node()?.clone();
        let connected = context.connections.connect(id.clone());
        Ok(Self {
            context,
            caller,
            id,
            requests,
            inlet,
            connected,
            federated: Federated::default(),
        })
    }

    /// Talks to the node until one of the two is gone, or the node is dismissed: whatever is being waited for, its greeting or its reading too.
    pub(crate) async fn run(mut self, dismissed: Dismissal) {
        let stop = self.context.spawner.stop();
        let end = tokio::select! {
            biased;
            () = stop.ordered() => End::Quiet,
            refusal = dismissed => End::Told(refusal),
            Err(end) = self.talk() => end,
        };
        let Self {
            context,
            caller,
            id,
            inlet,
            ..
        } = self;
        info!(node = %id, "node disconnected");
        let mut event = Event::new(caller.actor(), Action::NodeDisconnect, Outcome::Done);
        if let End::Told(refusal) = end {
            event = event
                .reference(refusal.reference())
                .fact("reason", refusal.message());
            // Not held up by the record: the stream ends because the node may have nothing more.
            inlet.refuse(refusal.into_status());
        }
        if let Err(error) = context.audit.record(event.object(Object::node(&id))).await {
            warn!(error = &error as &dyn std::error::Error, node = %id, "the end of a stream was not recorded");
        }
    }

    async fn talk(&mut self) -> Result<Infallible, End> {
        let greeted_by = Instant::now() + GREETING;
        let hello = self.hello(greeted_by).await?;
        let event = Event::new(self.caller.actor(), Action::NodeConnect, Outcome::Done)
            .object(Object::node(&self.id))
            .fact("agent_version", &hello.agent_version);
        self.context.record(event).await?;
        info!(node = %self.id, agent_version = %muster_runtime::logging::shown(&hello.agent_version), "node connected");

        // Opened before the view is taken, so that no commit falls between.
        let mailbox = self.context.registry.mailbox(&self.id);
        let mut bundles = self.context.bundles.watch_all();
        bundles.mark_unchanged();
        let view = self.context.view_for(&self.caller)?;
        let plan = plan(&view, &hello)?;
        // Welcome first, then the bundle: a node can use no entry without it.
        self.say(sync_response::Message::Welcome(self.welcome(&view, plan)))
            .await?;
        self.federated.entitled(&view.entitled_set());
        self.tell_all_bundles().await?;
        let mut told = match plan {
            // The digest was of this view: what changes from here on comes by mail.
            Plan::Current => {
                self.connected.installed(view.position().revision);
                view.into_view()
            }
            _ => self.bring_up_to_date(plan, &view, greeted_by).await?,
        };

        let mut heartbeat = interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
        loop {
            // Biased: what takes rights away is looked at first, and a flood of requests can't keep the rest waiting.
            tokio::select! {
                biased;
                mail = mailbox.wait() => told = self.tell_changes(told, &mail).await?,
                changed = bundles.changed() => {
                    changed.map_err(|_| End::Quiet)?;
                    self.tell_bundles().await?;
                }
                _ = heartbeat.tick() => {
                    let server_time = self.context.clock.now().as_secs();
                    self.say(sync_response::Message::Heartbeat(node::Heartbeat { server_time })).await?;
                }
                request = self.requests.message() => match request {
                    Ok(Some(request)) => self.hear(request)?,
                    Ok(None) | Err(_) => return Err(End::Quiet),
                },
            }
        }
    }

    async fn hello(&mut self, by: Instant) -> Result<node::Hello, End> {
        match self.request(by).await?.message {
            Some(sync_request::Message::Hello(hello)) if hello.wire_version == node::WIRE_VERSION => {
                Ok(hello)
            }
            Some(sync_request::Message::Hello(hello)) => Err(Refusal::new(
                Code::FailedPrecondition,
                format!(
                    "wire_version: {} is not spoken here, {} is",
                    hello.wire_version,
                    node::WIRE_VERSION
                ),
            )
            .into()),
            _ => Err(Refusal::invalid("the first message must be hello").into()),
        }
    }

    fn welcome(&self, view: &NodeView, plan: Plan) -> node::Welcome {
        node::Welcome {
            position: Some(convert::position_to_wire(&view.position())),
            capabilities: vec![UNKNOWN_KEY.to_owned()],
            server_time: self.context.clock.now().as_secs(),
            plan: plan.into(),
            heartbeat_millis: u32::try_from(HEARTBEAT.as_millis()).unwrap_or(u32::MAX),
            max_issue_batch: 500,
        }
    }

    /// Tells what the node lacks at the start; answers the view that it then stands at. That is the newest once the node
    /// has spoken: it may have taken its time, and what was taken from it meanwhile is not told any more.
    async fn bring_up_to_date(
        &mut self,
        plan: Plan,
        greeting: &NodeView,
        by: Instant,
    ) -> Result<Arc<View>, End> {
        let comparison = if plan == Plan::Compare {
            self.compare(greeting, by).await?
        } else {
            Comparison::with(&[])
        };
        let view = self.context.view_for(&self.caller)?;
        let entitled = view.entitled_set();
        self.federated.entitled(&entitled);
        self.tell_bundles().await?;
        let delta = comparison.finish(entitled);
        self.tell(view.position(), &delta).await?;
        Ok(view.into_view())
    }

    async fn compare(&mut self, view: &NodeView, by: Instant) -> Result<Comparison, End> {
        let mut comparison = Comparison::with(&view.entitled_set());
        loop {
            let Some(sync_request::Message::Have(part)) = self.request(by).await?.message else {
                return Err(Refusal::invalid("what the node holds was expected").into());
            };
            for entry in &part.entries {
                let (id, version) = convert::entry_version(entry)?;
                let strays = comparison
                    .hear(id, version)
                    .map_err(|error| Refusal::invalid(error.to_string()))?;
                if let Some(strays) = strays {
                    self.send(messages::removals(view.position(), &strays)).await?;
                }
            }
            if part.last {
                return Ok(comparison);
            }
        }
    }

    /// Tells what became of the touched entries: as they are now, whatever lies between.
    async fn tell_changes(&mut self, told: Arc<View>, mail: &Mail) -> Result<Arc<View>, End> {
        // The view that the mail was written with: a newer one holds changes whose mail is still to come, and would
        // make them look told. An older one than what was told at the start has nothing new.
        let Some(now) = mail
            .view
            .clone()
            .filter(|now| told.position().revision < now.position().revision)
        else {
            return Ok(told);
        };
        let delta = if mail.everything {
            told.delta_of_all(&now, &self.id)
        } else {
            told.delta(&now, &self.id, mail.entries.iter().flat_map(|ids| ids.iter()))
        };
        if !delta.is_empty() {
            // Before the entries: one that federates is not handed out without what it federates with.
            self.federated.changed(&delta);
            self.tell_bundles().await?;
            self.tell(now.position(), &delta).await?;
        }
        Ok(now)
    }

    async fn tell(&mut self, position: Position, delta: &Delta) -> Result<(), End> {
        for message in messages::update(position, delta) {
            self.send(message).await?;
        }
        Ok(())
    }

    /// Tells all bundles that concern the node, and that those are all: it may hold others from before.
    async fn tell_all_bundles(&mut self) -> Result<(), End> {
        let news = self.federated.news(&self.context.bundles.set());
        for message in messages::bundles(&news.unwrap_or_default(), messages::Told::Whole) {
            self.send(message).await?;
        }
        Ok(())
    }

    /// Tells what became of the bundles that concern the node.
    async fn tell_bundles(&mut self) -> Result<(), End> {
        let Some(news) = self.federated.news(&self.context.bundles.set()) else {
            return Ok(());
        };
        for message in messages::bundles(&news, messages::Told::Changes) {
            self.send(message).await?;
        }
        Ok(())
    }

    fn hear(&mut self, request: node::SyncRequest) -> Result<(), Refusal> {
        match request.message {
            Some(sync_request::Message::Ack(ack)) => {
                self.connected.outdated(ack.outdated);
                self.connected.holds(ack.bundle_sequence);
                // A position of another log says nothing about ours.
                if let Some(position) = &ack.position {
                    let position = convert::position("position", Some(position))?;
                    if position.store == self.context.registry.position().store {
                        self.connected.installed(position.revision);
                    }
                }
                Ok(())
            }
            Some(sync_request::Message::UnknownKey(unknown)) => {
                let other = convert::trust_domain("trust_domain", &unknown.trust_domain)?;
                self.context.federation.met_unknown_key(&other);
                Ok(())
            }
            // A kind of message that is newer than this server.
            None => Ok(()),
            Some(_) => Err(Refusal::invalid(
                "only acknowledgements and unknown keys may follow",
            )),
        }
    }

    async fn say(&self, message: sync_response::Message) -> Result<(), End> {
        self.send(messages::message(message)).await
    }

    /// Sends one message, if the node may be talked to still: it may have been long in the making.
    async fn send(&self, message: node::SyncResponse) -> Result<(), End> {
        self.context.view_for(&self.caller)?;
        match timeout(UNREAD, self.inlet.send(message)).await {
            Ok(sent) => sent.map_err(|_| End::Quiet),
            Err(_) => Err(late(format!("the node read nothing for {} s", UNREAD.as_secs()))),
        }
    }

    async fn request(&mut self, by: Instant) -> Result<node::SyncRequest, End> {
        match timeout_at(by, self.requests.message()).await {
            Ok(Ok(Some(request))) => Ok(request),
            Ok(_) => Err(End::Quiet),
            Err(_) => Err(late(format!(
                "the node did not say what it holds within {} s",
                GREETING.as_secs()
            ))),
        }
    }
}

fn late(text: String) -> End {
    Refusal::new(Code::DeadlineExceeded, text).into()
}

/// How the node is brought to `view`.
fn plan(view: &NodeView, hello: &node::Hello) -> Result<Plan, Refusal> {
    let Some(held) = &hello.position else {
        return Ok(Plan::Changes);
    };
    let held = convert::position("position", Some(held))?;
    // A node that is ahead of us holds what was never acknowledged, or another server's: compared, not trusted.
    let same_log = held.store == view.position().store && held.revision <= view.position().revision;
    let current = same_log && view.entitled_digest().to_bytes() == *hello.digest;
    Ok(if current { Plan::Current } else { Plan::Compare })
}
