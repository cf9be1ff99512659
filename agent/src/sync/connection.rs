//! One connection to the server, from the first message to its end.

use std::sync::Arc;
use std::time::Duration;

use muster_identity::TrustDomain;
use muster_pki::bundle::AuthorityStanding;
use muster_proto::node::node_client::NodeClient;
use muster_proto::node::{IssueRequest, IssueResponse, Plan, SyncRequest, SyncResponse};
use muster_runtime::Stop;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};
use tracing::{debug, info, warn};

use super::channel::Line;
use super::issuing::Issuing;
use super::kind::Kind;
use super::link::{End, Link, next_order, sleep_until};
use super::link_error::LinkError;
use super::session::{Event, Session, Welcome};
use super::under_way::{Keys, Renewed, UnderWay, under_way, unreachable};
use crate::rotate::Outcome;

/// How long the server may take to answer the first message.
const GREETING: Duration = Duration::from_secs(10);
/// How long the stream may be silent: three heartbeats.
const SILENCE: Duration = Duration::from_secs(6);
/// How long one request may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// How many certificate requests go into one batch, at most.
const BATCH: usize = 500;
/// How many batches are out at once: while one is signed, the next one's keys are made.
const BATCHES: usize = 2;
/// How many messages may wait for the transport. When the server does not read, orders wait in their own queue, which is bounded too.
const UNSENT: usize = 256;
/// How far the clocks may differ before an operator is told.
const CLOCK_ALARM: u64 = 5;
/// The transport's limit for a message.
const MOST_BYTES: usize = 4 << 20;

/// The streams of a connection, and what is under way on them.
struct Streams {
    channel: Channel,
    to_sync: mpsc::Sender<SyncRequest>,
    sync: Streaming<SyncResponse>,
    to_issue: mpsc::Sender<IssueRequest>,
    issue: Streaming<IssueResponse>,
    session: Session,
    issuing: Issuing,
    batch: usize,
    /// Whether the server wants to hear of keys that a foreign bundle lacks.
    hears_of_unknown_keys: bool,
    /// When the server was last heard.
    heard: Instant,
    /// How many SVIDs below a tainted authority the server was told of.
    outdated: usize,
    under_way: UnderWay,
}

/// What the server turned out to be, and the connection to it.
enum Opened {
    Pushes(Box<Streams>),
    IsPolled(Line),
}

/// What happened.
enum Happening {
    Stop,
    Sync(Result<Option<SyncResponse>, Status>),
    Issue(Result<Option<IssueResponse>, Status>),
    Prepared(Keys),
    Renewed(Renewed),
    Order(Option<crate::cache::JwtOrder>),
    UnknownKey(TrustDomain),
    Time,
}

impl Link {
    /// Connects and serves the connection until it ends.
    pub(super) async fn connection(&mut self, stop: &Stop) -> End {
        let revoked = self.membership.own_authority() == AuthorityStanding::Absent;
        if (self.has_ended() || revoked)
            && let Err(error) = self.rejoin(stop).await
        {
            return if stop.is_ordered() {
                End::Stopped
            } else {
                End::Lost(error)
            };
        }
        let mut streams = match self.open(stop).await {
            Ok(Some(Opened::Pushes(streams))) => streams,
            Ok(Some(Opened::IsPolled(line))) => return self.poll(line, stop).await,
            Ok(None) => return End::Stopped,
            Err(error) => return End::Lost(error),
        };
        let mut end = self.serve(&mut streams, stop).await;
        if end.is_err() && self.proves_again(&streams.under_way) {
            end = self.hear_out(&mut streams.under_way, stop, end).await;
        }
        // Whatever is open comes to nothing; the cache plans it anew.
        let mut lost = streams.issuing.abandon();
        if let Some((entries, _)) = streams.under_way.preparing.take() {
            lost.push(unreachable(entries));
        }
        lost.into_iter().for_each(|answer| self.answered(answer));
        if streams.under_way.renewing.is_some() {
            self.renewals
                .finished(&(), Outcome::Unreachable, self.clock.now());
        }
        match end {
            Ok(end) => end,
            Err(error) => End::Lost(error),
        }
    }

    /// Opens a connection in the way that fits the server, which its answer tells. None: it is to stop.
    async fn open(&mut self, stop: &Stop) -> Result<Option<Opened>, LinkError> {
        let dial = self.membership.dial()?;
        loop {
            let (dial, pings) = (dial.clone(), self.kind.pings());
            let hello = self.handle.read(|cache| Session::hello(cache, &self.about));
            let opening = async move {
                let line = dial.line(pings).await?;
                match greet(&line, hello).await {
                    Ok(streams) => Ok((Kind::Muster, Opened::Pushes(streams))),
                    Err(status) => match Kind::refusing(&status) {
                        Some(kind) => Ok((kind, Opened::IsPolled(line))),
                        None => Err(LinkError::from(Box::new(status))),
                    },
                }
            };
            let opened = self
                .meanwhile(stop, tokio::time::timeout(GREETING, opening))
                .await;
            let Some(opened) = opened else {
                return Ok(None);
            };
            let (kind, opened) = opened.unwrap_or(Err(LinkError::Silent(GREETING)))?;
            if kind == self.kind {
                return Ok(Some(opened));
            }
            info!(server = %self.membership.state().server, ?kind, "the server is of another kind than it was taken for");
            self.kind = kind;
            if let Opened::Pushes(streams) = opened {
                // It is heard every two seconds, pinged or not.
                return Ok(Some(Opened::Pushes(streams)));
            }
            // A connection that pings would be closed: this one is given up for one that does not. Whatever answers there is taken as it is.
        }
    }

    async fn serve(&mut self, streams: &mut Streams, stop: &Stop) -> Result<End, LinkError> {
        loop {
            match self.next(streams, stop).await {
                Happening::Stop => return Ok(End::Stopped),
                Happening::Sync(message) => {
                    let message = message.map_err(Box::new)?.ok_or(LinkError::Closed)?;
                    streams.heard = Instant::now();
                    self.heard();
                    self.synced(streams, message).await?;
                }
                Happening::Issue(message) => {
                    let message = message.map_err(Box::new)?.ok_or(LinkError::Closed)?;
                    if let Some(answer) = streams.issuing.receive(message, self.clock.now()) {
                        self.answered(answer);
                        self.tell_outdated(streams);
                    }
                }
                Happening::Prepared(keys) => {
                    let batch = self.prepared(&mut streams.under_way, keys);
                    if !batch.is_empty() {
                        let request = streams.issuing.ask_x509(batch, Instant::now() + ANSWER_WITHIN);
                        // When it does not fit the server does not read; the request runs into its deadline and is planned anew.
                        streams.to_issue.try_send(request).ok();
                    }
                }
                Happening::Renewed(result) => self.renewed(&mut streams.under_way, result).await?,
                Happening::Order(Some(order)) => {
                    let request = streams.issuing.ask_jwt(order, Instant::now() + ANSWER_WITHIN);
                    // There was room when the order was taken.
                    streams.to_issue.try_send(request).ok();
                }
                Happening::Order(None) => return Ok(End::Stopped),
                Happening::UnknownKey(trust_domain) => {
                    if streams.hears_of_unknown_keys {
                        // When the server does not read, it learns of the key at its next refresh.
                        streams.to_sync.try_send(Session::unknown_key(&trust_domain)).ok();
                    }
                }
                Happening::Time => {}
            }
            self.look_at_time(streams).await?;
            if streams
                .under_way
                .leave_by
                .is_some_and(|by| streams.issuing.is_empty() || by <= Instant::now())
            {
                return Ok(End::Again);
            }
        }
    }

    /// Waits for the next thing to happen. What takes rights away comes first.
    async fn next(&mut self, streams: &mut Streams, stop: &Stop) -> Happening {
        // Ids of entries that were polled mean nothing to this server; its own are on their way.
        let polled = self.holds_polled();
        let busy = polled
            || streams.under_way.preparing.is_some()
            || streams.issuing.batches_out() >= BATCHES
            || streams.under_way.leave_by.is_some();
        let wake = self
            .handle
            .read(|cache| if busy { cache.next_end() } else { cache.next_wake() });
        // Who leaves begins nothing: what is due stays due, and would be looked at without a pause.
        let leaving = streams.under_way.leave_by.is_some();
        let renew_at = if streams.under_way.renewing.is_some() || leaving {
            None
        } else {
            self.renewals.next_wake()
        };
        let wake = [wake.filter(|_| !leaving), renew_at].into_iter().flatten().min();
        let mut deadline = streams.heard + SILENCE;
        for earlier in [streams.issuing.next_deadline(), streams.under_way.leave_by]
            .into_iter()
            .flatten()
        {
            deadline = deadline.min(earlier);
        }
        let room = streams.to_issue.capacity() > 0 && streams.under_way.leave_by.is_none() && !polled;
        let clock = Arc::clone(&self.clock);
        tokio::select! {
            biased;
            () = stop.ordered() => Happening::Stop,
            message = streams.sync.message() => Happening::Sync(message),
            message = streams.issue.message() => Happening::Issue(message),
            keys = under_way(&mut streams.under_way.preparing) => Happening::Prepared(keys),
            result = under_way(&mut streams.under_way.renewing) => Happening::Renewed(result),
            order = next_order(&mut self.carried, &mut self.orders), if room => Happening::Order(order),
            trust_domain = self.handle.unknown_key() => Happening::UnknownKey(trust_domain),
            () = self.handle.woken(), if !busy => Happening::Time,
            () = sleep_until(&*clock, wake) => Happening::Time,
            () = tokio::time::sleep_until(deadline) => Happening::Time,
        }
    }

    async fn synced(&mut self, streams: &mut Streams, message: SyncResponse) -> Result<(), LinkError> {
        let own = self.membership.state().trust_domain.clone();
        match streams.session.receive(message, &own)? {
            Event::Welcome(welcome) => self.greeted(streams, welcome).await,
            Event::Update(update) => {
                debug!(position = %update.position, upserts = update.upserts.len(), removals = update.removals.len(), "entries changed");
                self.handle
                    .with(|cache, now| cache.install(update, now))
                    .map_err(super::session::SessionError::from)?;
                self.metrics.updates.inc();
                self.complete();
                self.acknowledge(streams);
            }
            Event::Bundles(news) => {
                self.handle
                    .with(|cache, now| cache.install_bundle_news(news, now));
                let before = self.learn_bundle().await?;
                self.acknowledge(streams);
                self.follow_authorities(&before)?;
            }
            Event::Heartbeat { server_time } => self.compare_clocks(server_time),
            Event::Nothing => {}
        }
        self.handle.read(|cache| self.metrics.measure(cache));
        Ok(())
    }

    async fn greeted(&mut self, streams: &mut Streams, welcome: Welcome) {
        let state = self.membership.state();
        info!(server = %state.server, plan = welcome.plan.as_str_name(), "connected to the server");
        streams.batch = welcome.most_csrs.clamp(1, BATCH);
        streams.hears_of_unknown_keys = welcome.hears_of_unknown_keys;
        self.welcomed();
        self.compare_clocks(welcome.server_time);
        match welcome.plan {
            Plan::Current => {
                self.complete();
                self.acknowledge(streams);
            }
            Plan::Compare => {
                for message in self.handle.read(Session::have) {
                    // A server that does not read loses the stream by its silence; the send ends with it.
                    streams.to_sync.send(message).await.ok();
                }
            }
            Plan::Changes | Plan::Unspecified => {}
        }
    }

    /// Tells what is held. It is a service to the server: when the queue is full, a later one says it too.
    fn acknowledge(&self, streams: &mut Streams) {
        streams.outdated = self.outdated();
        if let Some(ack) = streams.session.ack(streams.outdated) {
            streams.to_sync.try_send(ack).ok();
        }
    }

    /// Whoever revokes an authority waits until nothing below it is left.
    fn tell_outdated(&self, streams: &mut Streams) {
        if streams.outdated > 0 && self.outdated() == 0 {
            self.acknowledge(streams);
        }
    }

    /// Acts on what came due.
    async fn look_at_time(&mut self, streams: &mut Streams) -> Result<(), LinkError> {
        self.watch_clock();
        let instant = Instant::now();
        if streams.heard + SILENCE <= instant {
            return Err(LinkError::Silent(SILENCE));
        }
        streams
            .issuing
            .overdue(instant)
            .into_iter()
            .for_each(|answer| self.answered(answer));
        let free = streams.issuing.batches_out() < BATCHES && !self.holds_polled();
        let batch = if free { streams.batch } else { 0 };
        self.begin(&mut streams.under_way, &streams.channel, batch).await
    }

    fn compare_clocks(&mut self, server_time: i64) {
        let behind = server_time.saturating_sub(self.clock.now().as_secs());
        let was = self.metrics.clock_behind.set(behind);
        let (far, was_far) = (is_far(behind), is_far(was));
        if far && !was_far {
            warn!(
                seconds_behind = behind,
                "this machine's clock differs from the server's"
            );
        }
        if far != was_far {
            let note = far.then(|| format!("{behind} s behind the server"));
            self.readiness.note("clock", note);
        }
    }
}

/// Whether clocks that differ by so many seconds are an operator's business. The server says what it likes: the least number has no positive counterpart.
fn is_far(seconds: i64) -> bool {
    seconds.unsigned_abs() > CLOCK_ALARM
}

/// Opens both streams and says hello.
async fn greet(line: &Line, hello: SyncRequest) -> Result<Box<Streams>, Status> {
    let mut client = NodeClient::new(line.channel.clone()).max_decoding_message_size(MOST_BYTES);
    let (to_sync, sync) = mpsc::channel(UNSENT);
    let (to_issue, issue) = mpsc::channel(UNSENT);
    // There is room: nothing was sent before.
    to_sync.send(hello).await.ok();
    let sync = client.sync(ReceiverStream::new(sync)).await?.into_inner();
    let issue = client.issue(ReceiverStream::new(issue)).await?.into_inner();
    Ok(Box::new(Streams {
        channel: line.channel.clone(),
        to_sync,
        sync,
        to_issue,
        issue,
        session: Session::default(),
        issuing: Issuing::default(),
        batch: BATCH,
        hears_of_unknown_keys: false,
        under_way: UnderWay::default(),
        heard: Instant::now(),
        outdated: 0,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_time_the_server_says_is_compared() {
        for seconds in [i64::MIN, i64::MIN + 1, -6, 6, i64::MAX] {
            assert!(is_far(seconds), "{seconds}");
        }
        for seconds in [-5, 0, 5] {
            assert!(!is_far(seconds), "{seconds}");
        }
    }
}
