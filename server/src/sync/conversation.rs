use std::{collections::HashMap, sync::Arc, time::Duration};

use muster_audit::{Action, Event, Object, Outcome};
use muster_identity::{EntryId, Position, SpiffeId, UnixTime};
use muster_proto::{
    convert,
    node::{self, Plan, sync_request, sync_response},
};
use tokio::{sync::mpsc, time::Instant};
use tonic::{Status, Streaming};
use tracing::{info, warn};

use super::{connections::Connected, end_of, messages, standing};
use crate::{
    api::{Caller, Context, Refusal},
    registry::{Delta, Mail, View},
};

/// A node that hears nothing for three of these takes the stream for dead.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// How long a node has for its first message, and for what it holds.
const GREETING: Duration = Duration::from_secs(10);
/// How many entries a node may say it holds.
const MOST_HELD: usize = 1_000_000;

/// One node's Sync stream.
pub struct Conversation {
    context: Arc<Context>,
    caller: Caller,
    id: SpiffeId,
    end: UnixTime,
    requests: Streaming<node::SyncRequest>,
    answers: mpsc::Sender<Result<node::SyncResponse, Status>>,
    connected: Connected,
}

/// Why a stream ends.
enum End {
    /// The node is gone, or the server stops.
    Quiet,
    /// The node is told.
    Told(Refusal),
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> Self {
        Self::Told(refusal)
    }
}

impl Conversation {
    /// A stream that has just been opened by a node which the door let in.
    pub(crate) fn new(
        context: Arc<Context>,
        caller: Caller,
        id: SpiffeId,
        requests: Streaming<node::SyncRequest>,
        answers: mpsc::Sender<Result<node::SyncResponse, Status>>,
    ) -> Result<Self, Refusal> {
        let end = end_of(&caller)?;
        let connected = context.connections.connect(id.clone());
        Ok(Self {
            context,
            caller,
            id,
            end,
            requests,
            answers,
            connected,
        })
    }

    /// Talks to the node until one of the two is gone.
    pub(crate) async fn run(mut self) {
        let end = self.talk().await;
        if let Err(End::Told(refusal)) = end {
            // Nobody may be there to read it; then the refusal is in the log alone.
            let _ = self.answers.send(Err(refusal.into_status())).await;
        }
        info!(node = %self.id, "node disconnected");
        let event = Event::new(self.caller.actor(), Action::NodeDisconnect, Outcome::Done)
            .object(Object::node(&self.id));
        if let Err(error) = self.context.audit.record(event).await {
            warn!(error = &error as &dyn std::error::Error, node = %self.id, "the end of a stream was not recorded");
        }
    }

    async fn talk(&mut self) -> Result<(), End> {
        let hello = self.hello().await?;
        let event = Event::new(self.caller.actor(), Action::NodeConnect, Outcome::Done)
            .object(Object::node(&self.id))
            .fact("agent_version", &hello.agent_version);
        self.context.record(event).await?;
        info!(node = %self.id, agent_version = %muster_runtime::logging::shown(&hello.agent_version), "node connected");

        // Opened before the view is taken, so that no commit falls between.
        let mailbox = self.context.registry.mailbox(&self.id);
        let mut bundles = self.context.bundles.watch();
        let mut told_bundle = *bundles.borrow_and_update();
        let view = self.context.registry.view();
        let plan = self.plan(&view, &hello)?;
        // Welcome first, then the bundle: a node can use no entry without it.
        self.say(sync_response::Message::Welcome(self.welcome(&view, plan)))
            .await?;
        self.tell_bundle().await?;
        let mut told = match plan {
            // The digest was of this view: what changes from here on comes by mail.
            Plan::Current => {
                self.connected.installed(view.position().revision);
                view
            }
            _ => self.bring_up_to_date(plan).await?,
        };

        let mut heartbeat = tokio::time::interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
        let stop = self.context.spawner.stop();
        let clock = Arc::clone(&self.context.clock);
        let mut certificate_ends = clock.sleep_until(self.end);
        loop {
            // Biased: what takes rights away is looked at first, and a flood of requests can't keep the rest waiting.
            tokio::select! {
                biased;
                () = stop.ordered() => return Err(End::Quiet),
                () = &mut certificate_ends => return Ok(standing(&self.context, &self.caller, &self.id)?),
                mail = mailbox.wait() => {
                    standing(&self.context, &self.caller, &self.id)?;
                    told = self.tell_changes(told, &mail).await?;
                }
                changed = bundles.changed() => {
                    changed.map_err(|_| End::Quiet)?;
                    if std::mem::replace(&mut told_bundle, *bundles.borrow_and_update()) != told_bundle {
                        self.tell_bundle().await?;
                    }
                }
                _ = heartbeat.tick() => {
                    standing(&self.context, &self.caller, &self.id)?;
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

    async fn hello(&mut self) -> Result<node::Hello, End> {
        match self.request().await?.message {
            Some(sync_request::Message::Hello(hello)) if hello.wire_version == node::WIRE_VERSION => {
                Ok(hello)
            }
            Some(sync_request::Message::Hello(hello)) => Err(Refusal::new(
                tonic::Code::FailedPrecondition,
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

    fn welcome(&self, view: &View, plan: Plan) -> node::Welcome {
        node::Welcome {
            position: Some(convert::position_to_wire(&view.position())),
            capabilities: vec![],
            server_time: self.context.clock.now().as_secs(),
            plan: plan.into(),
            heartbeat_millis: u32::try_from(HEARTBEAT.as_millis()).unwrap_or(u32::MAX),
            max_issue_batch: 500,
        }
    }

    fn plan(&self, view: &View, hello: &node::Hello) -> Result<Plan, Refusal> {
        let Some(held) = &hello.position else {
            return Ok(Plan::Changes);
        };
        let held = convert::position("position", Some(held))?;
        // A node that is ahead of us holds what was never acknowledged, or another server's: compared, not trusted.
        let same_log = held.store == view.position().store && held.revision <= view.position().revision;
        let current = same_log && view.entitled_digest(&self.id).to_bytes() == *hello.digest;
        Ok(if current { Plan::Current } else { Plan::Compare })
    }

    /// Tells what the node lacks at the start; answers the view that it then stands at.
    async fn bring_up_to_date(&mut self, plan: Plan) -> Result<Arc<View>, End> {
        let have = if plan == Plan::Compare {
            self.have().await?
        } else {
            HashMap::new()
        };
        let view = self.context.registry.view();
        let delta = messages::compare(have, view.entitled_set(&self.id));
        self.tell(view.position(), &delta).await?;
        Ok(view)
    }

    async fn have(&mut self) -> Result<HashMap<EntryId, u64>, End> {
        let mut have = HashMap::new();
        loop {
            let Some(sync_request::Message::Have(part)) = self.request().await?.message else {
                return Err(Refusal::invalid("what the node holds was expected").into());
            };
            for entry in &part.entries {
                let (id, version) = convert::entry_version(entry).map_err(Refusal::from)?;
                have.insert(id, version);
            }
            if have.len() > MOST_HELD {
                return Err(Refusal::invalid(format!("entries: a node holds at most {MOST_HELD}")).into());
            }
            if part.last {
                return Ok(have);
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
        if !delta.upserts.is_empty() || !delta.removals.is_empty() {
            self.tell(now.position(), &delta).await?;
        }
        Ok(now)
    }

    async fn tell(&mut self, position: Position, delta: &Delta) -> Result<(), End> {
        for message in messages::update(position, delta) {
            self.answers.send(Ok(message)).await.map_err(|_| End::Quiet)?;
        }
        Ok(())
    }

    async fn tell_bundle(&mut self) -> Result<(), End> {
        let own = self.context.bundles.own();
        let bundles = vec![convert::bundle_to_wire(&own, None)];
        self.say(sync_response::Message::Bundles(node::Bundles {
            bundles,
            removed: vec![],
        }))
        .await
    }

    fn hear(&mut self, request: node::SyncRequest) -> Result<(), Refusal> {
        match request.message {
            Some(sync_request::Message::Ack(ack)) => {
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
            // A kind of message that is newer than this server.
            None => Ok(()),
            Some(_) => Err(Refusal::invalid("only acknowledgements may follow")),
        }
    }

    async fn say(&mut self, message: sync_response::Message) -> Result<(), End> {
        self.answers
            .send(Ok(messages::message(message)))
            .await
            .map_err(|_| End::Quiet)
    }

    async fn request(&mut self) -> Result<node::SyncRequest, End> {
        match tokio::time::timeout(GREETING, self.requests.message()).await {
            Ok(Ok(Some(request))) => Ok(request),
            Ok(_) => Err(End::Quiet),
            Err(_) => {
                Err(Refusal::new(tonic::Code::DeadlineExceeded, "the node said nothing for 10 s").into())
            }
        }
    }
}
