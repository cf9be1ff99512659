//! One connection to the server, from the first message to its end.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use muster_identity::{EntryId, TrustDomain};
use muster_pki::LocalKey;
use muster_pki::bundle::AuthorityStanding;
use muster_pki::x509::X509Svid;
use muster_proto::node::node_client::NodeClient;
use muster_proto::node::{IssueRequest, IssueResponse, Plan, SyncRequest, SyncResponse};
use muster_runtime::{SigningPoolError, Stop};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};
use tracing::{debug, info, warn};

use super::issuing::{Answer, Issuing, Prepared, prepare};
use super::link::{End, Link, LinkError, sleep_until};
use super::session::{Event, Session, Welcome};
use crate::attest::AttestError;
use crate::cache::{Cache, SignFailure};
use crate::rotate::Outcome;

/// How long the server may take to answer the first message.
const GREETING: Duration = Duration::from_secs(10);
/// How long the stream may be silent: three heartbeats.
const SILENCE: Duration = Duration::from_secs(6);
/// How long one request may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// How long open requests may still take when the connection is to be changed for another.
const LEAVE_WITHIN: Duration = Duration::from_secs(2);
/// How many certificate requests go into one batch, at most.
const BATCH: usize = 500;
/// How many batches are out at once: while one is signed, the next one's keys are made.
const BATCHES: usize = 2;
/// How many messages may wait for the transport. When the server does not read, orders wait in their own queue, which is bounded too.
const UNSENT: usize = 256;
/// How far the clocks may differ before an operator is told.
const CLOCK_ALARM: i64 = 5;
/// The transport's limit for a message.
const MOST_BYTES: usize = 4 << 20;

type Keys = Result<Vec<Result<Prepared, EntryId>>, SigningPoolError>;
pub(super) type Renewed = Result<X509Svid, AttestError>;
pub(super) type Under<T> = Pin<Box<dyn Future<Output = T> + Send>>;

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
    /// Keys that are being made, and for which entries.
    preparing: Option<(Vec<EntryId>, Under<Keys>)>,
    renewing: Option<(Arc<LocalKey>, Under<Renewed>)>,
    /// When the server was last heard.
    heard: Instant,
    /// How many SVIDs below a tainted authority the server was told of.
    outdated: usize,
    /// Set when the connection is to be changed: until then open requests are waited for.
    leave_by: Option<Instant>,
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
        let ended = self
            .membership
            .state()
            .identity
            .as_ref()
            .is_none_or(|own| own.expires() <= self.clock.now());
        let revoked = self.membership.own_authority() == AuthorityStanding::Absent;
        if (ended || revoked)
            && let Err(error) = self.rejoin(stop).await
        {
            return if stop.is_ordered() {
                End::Stopped
            } else {
                End::Lost(error)
            };
        }
        let mut streams = match self.open(stop).await {
            Ok(Some(streams)) => streams,
            Ok(None) => return End::Stopped,
            Err(error) => return End::Lost(error),
        };
        let mut end = self.serve(&mut streams, stop).await;
        if end.is_err() && streams.renewing.is_some() && self.attestor.is_some() {
            // The answer to the new attestation ended the old certificate and this connection with it; it is on its way.
            end = self.hear_out(&mut streams, stop, end).await;
        }
        // Whatever is open comes to nothing; the cache plans it anew.
        let mut lost = streams.issuing.abandon();
        if let Some((entries, _)) = streams.preparing.take() {
            lost.push(Answer::X509(
                entries
                    .into_iter()
                    .map(|id| (id, Err(SignFailure::Unreachable)))
                    .collect(),
            ));
        }
        lost.into_iter().for_each(|answer| self.answered(answer));
        if streams.renewing.is_some() {
            self.renewals
                .finished(&(), Outcome::Unreachable, self.clock.now());
        }
        match end {
            Ok(end) => end,
            Err(error) => End::Lost(error),
        }
    }

    /// Waits for the attestation that is under way, when the connection has ended in `end` meanwhile.
    async fn hear_out(
        &mut self,
        streams: &mut Streams,
        stop: &Stop,
        end: Result<End, LinkError>,
    ) -> Result<End, LinkError> {
        let Some(result) = self.meanwhile(stop, under_way(&mut streams.renewing)).await else {
            return Ok(End::Stopped);
        };
        self.renewed(streams, result).await?;
        if streams.leave_by.is_some() {
            Ok(End::Renewed)
        } else {
            end
        }
    }

    /// Opens both streams and says hello. None: it is to stop.
    async fn open(&mut self, stop: &Stop) -> Result<Option<Streams>, LinkError> {
        let dial = self.membership.dial()?;
        let hello = self.handle.read(|cache| Session::hello(cache, &self.about));
        let opening = async move {
            let channel = dial.connect().await?;
            let mut client = NodeClient::new(channel.clone()).max_decoding_message_size(MOST_BYTES);
            let (to_sync, sync) = mpsc::channel(UNSENT);
            let (to_issue, issue) = mpsc::channel(UNSENT);
            // There is room: nothing was sent before.
            to_sync.send(hello).await.ok();
            let sync = client
                .sync(ReceiverStream::new(sync))
                .await
                .map_err(Box::new)?
                .into_inner();
            let issue = client
                .issue(ReceiverStream::new(issue))
                .await
                .map_err(Box::new)?
                .into_inner();
            Ok::<_, LinkError>(Streams {
                channel,
                to_sync,
                sync,
                to_issue,
                issue,
                session: Session::default(),
                issuing: Issuing::default(),
                batch: BATCH,
                hears_of_unknown_keys: false,
                preparing: None,
                renewing: None,
                heard: Instant::now(),
                outdated: 0,
                leave_by: None,
            })
        };
        let opened = self
            .meanwhile(stop, tokio::time::timeout(GREETING, opening))
            .await;
        opened
            .map(|opened| opened.unwrap_or(Err(LinkError::Silent(GREETING))))
            .transpose()
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
                Happening::Prepared(keys) => self.prepared(streams, keys),
                Happening::Renewed(result) => self.renewed(streams, result).await?,
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
                .leave_by
                .is_some_and(|by| streams.issuing.is_empty() || by <= Instant::now())
            {
                return Ok(End::Renewed);
            }
        }
    }

    /// Waits for the next thing to happen. What takes rights away comes first.
    async fn next(&mut self, streams: &mut Streams, stop: &Stop) -> Happening {
        let busy = streams.preparing.is_some()
            || streams.issuing.batches_out() >= BATCHES
            || streams.leave_by.is_some();
        let wake = self
            .handle
            .read(|cache| if busy { cache.next_end() } else { cache.next_wake() });
        let renew_at = if streams.renewing.is_some() {
            None
        } else {
            self.renewals.next_wake()
        };
        let wake = [wake, renew_at].into_iter().flatten().min();
        let mut deadline = streams.heard + SILENCE;
        for earlier in [streams.issuing.next_deadline(), streams.leave_by]
            .into_iter()
            .flatten()
        {
            deadline = deadline.min(earlier);
        }
        let room = streams.to_issue.capacity() > 0 && streams.leave_by.is_none();
        let clock = Arc::clone(&self.clock);
        tokio::select! {
            biased;
            () = stop.ordered() => Happening::Stop,
            message = streams.sync.message() => Happening::Sync(message),
            message = streams.issue.message() => Happening::Issue(message),
            keys = under_way(&mut streams.preparing) => Happening::Prepared(keys),
            result = under_way(&mut streams.renewing) => Happening::Renewed(result),
            order = self.orders.recv(), if room => Happening::Order(order),
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
                let (own, before) = (self.handle.own_bundle(), self.membership.own_authority());
                self.membership.learn(own).await?;
                self.acknowledge(streams);
                self.follow_authorities(before)?;
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

    fn answered(&mut self, answer: Answer) {
        match answer {
            Answer::X509(results) => {
                let signed = results.iter().filter(|(_, result)| result.is_ok()).count();
                self.metrics.signed.inc_by(u64::try_from(signed).unwrap_or(0));
                self.metrics
                    .not_signed
                    .inc_by(u64::try_from(results.len() - signed).unwrap_or(0));
                self.handle.with(|cache, now| cache.signed(results, now));
                self.handle.read(|cache| self.metrics.measure(cache));
            }
            Answer::Jwt(order, result) => {
                if result.is_ok() {
                    self.metrics.signed.inc()
                } else {
                    self.metrics.not_signed.inc()
                };
                self.handle.token_signed(&order, result);
            }
        }
    }

    /// Keys are made: their requests go out. Where a key could not be made, the order has failed.
    fn prepared(&mut self, streams: &mut Streams, keys: Keys) {
        let Some((entries, _)) = streams.preparing.take() else {
            return;
        };
        let Ok(keys) = keys else {
            let failed = entries.into_iter().map(|id| (id, Err(SignFailure::Unreachable)));
            return self.answered(Answer::X509(failed.collect()));
        };
        let (mut batch, mut failed) = (Vec::with_capacity(keys.len()), Vec::new());
        for key in keys {
            match key {
                Ok(prepared) => batch.push(prepared),
                Err(entry_id) => failed.push((entry_id, Err(SignFailure::Unreachable))),
            }
        }
        if !failed.is_empty() {
            self.answered(Answer::X509(failed));
        }
        if !batch.is_empty() {
            let request = streams.issuing.ask_x509(batch, Instant::now() + ANSWER_WITHIN);
            // When it does not fit the server does not read; the request runs into its deadline and is planned anew.
            streams.to_issue.try_send(request).ok();
        }
    }

    async fn renewed(
        &mut self,
        streams: &mut Streams,
        result: Result<X509Svid, AttestError>,
    ) -> Result<(), LinkError> {
        let Some((key, _)) = streams.renewing.take() else {
            return Ok(());
        };
        match result {
            Ok(svid) => {
                match self.adopt(svid, &key).await {
                    // The key stays the one to ask with: the next try brings the same again.
                    Err(LinkError::Store(error)) if error.may_retry() => {
                        warn!(
                            error = &error as &dyn std::error::Error,
                            "the node's new certificate is not on disk, so it is not used"
                        );
                        self.renewals
                            .finished(&(), Outcome::Unreachable, self.clock.now());
                        return Ok(());
                    }
                    adopted => adopted?,
                }
                // The new certificate counts from its first use on, and the old connection ends with the old one.
                streams.leave_by = Some(Instant::now() + LEAVE_WITHIN);
            }
            Err(error) => {
                warn!(
                    error = &error as &dyn std::error::Error,
                    "the node's certificate was not renewed; the old one stays"
                );
                let outcome = if error.may_retry() {
                    Outcome::Unreachable
                } else {
                    Outcome::Refused
                };
                self.renewals.finished(&(), outcome, self.clock.now());
                if error.denial().is_some() {
                    return Err(error.into());
                }
            }
        }
        Ok(())
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
        let now = self.clock.now();
        if streams.leave_by.is_some() {
            return Ok(());
        }
        if streams.renewing.is_none() && !self.renewals.due(now, 1).is_empty() {
            match self.membership.key_to_ask_with().await {
                Ok(key) => {
                    let asking = self.ask_again(streams.channel.clone(), Arc::clone(&key))?;
                    streams.renewing = Some((key, asking));
                }
                Err(error) => {
                    // Without a key on disk nothing is asked for; the connection has nothing to do with it.
                    warn!(
                        error = &error as &dyn std::error::Error,
                        "the node's certificate can't be renewed now"
                    );
                    self.renewals.finished(&(), Outcome::Unreachable, now);
                }
            }
        }
        let free = streams.preparing.is_none() && streams.issuing.batches_out() < BATCHES;
        let batch = if free { streams.batch } else { 0 };
        let orders = self.handle.with(|cache: &mut Cache, now| {
            if cache.next_wake().is_none_or(|wake| wake > now) {
                return Vec::new();
            }
            if cache.next_end().is_some_and(|end| end <= now) {
                cache.tick(now);
            }
            cache.due(now, batch)
        });
        if !orders.is_empty() {
            let entries = orders.iter().map(|order| order.entry_id.clone()).collect();
            let (pool, algorithm) = (self.pool.clone(), self.algorithm);
            let keys = async move { pool.run(move || prepare(orders, algorithm)).await };
            streams.preparing = Some((entries, Box::pin(keys)));
        }
        Ok(())
    }

    fn compare_clocks(&mut self, server_time: i64) {
        let behind = server_time.saturating_sub(self.clock.now().as_secs());
        let was = self.metrics.clock_behind.set(behind);
        let (far, was_far) = (behind.abs() > CLOCK_ALARM, was.abs() > CLOCK_ALARM);
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

/// The result of what is under way; never, when nothing is.
async fn under_way<K, T>(slot: &mut Option<(K, Under<T>)>) -> T {
    match slot {
        Some((_, future)) => future.as_mut().await,
        None => std::future::pending().await,
    }
}
