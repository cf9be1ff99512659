//! One connection to a SPIRE server, from the first poll to its end.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use muster_identity::EntryId;
use muster_pki::jwt::JwtSvid;
use muster_proto::spire::server::agent::PostStatusRequest;
use muster_proto::spire::server::agent::agent_client::AgentClient;
use muster_runtime::Stop;
use tokio::time::Instant;
use tonic::transport::Channel;
use tracing::{debug, info, warn};

use super::batch::BatchSize;
use super::call::{CallError, within};
use super::poll::Polled;
use super::schedule::{Outcome, Schedule};
use super::signing::{self, Signed};
use crate::cache::{Cache, JwtOrder, SignFailure};
use crate::rotate::{Jitter, Outcome as Renewal};
use crate::sync::channel::Line;
use crate::sync::issuing::{Answer, Prepared};
use crate::sync::link::{End, Link, STEADY, next_order, sleep_until};
use crate::sync::link_error::LinkError;
use crate::sync::under_way::{Keys, Renewed, Under, UnderWay, under_way, unreachable};

/// How many batches of certificate requests are out at once: while one is signed, the next one's keys are made.
const BATCHES: usize = 2;
/// How many tokens are asked for at once. Orders beyond that wait in their own queue, which is bounded too.
const TOKENS: usize = 64;
/// How long the server may take to note this agent's version.
const INTRODUCED_WITHIN: Duration = Duration::from_secs(10);
/// The longest version that a server takes.
const LONGEST_VERSION: usize = 255;

/// A connection, and what is under way on it.
struct Open {
    line: Line,
    since: Instant,
    schedule: Schedule,
    batch: BatchSize,
    calls: FuturesUnordered<Under<Done>>,
    /// The entries of each batch that is being signed.
    signing: BTreeMap<u64, Vec<EntryId>>,
    batches: u64,
    tokens: HashSet<JwtOrder>,
    /// Whether a poll has brought a whole view.
    polled: bool,
    under_way: UnderWay,
}

/// A call that has ended.
enum Done {
    Polled(Result<Polled, CallError>),
    Signed(u64, Result<Signed, CallError>),
    Token(JwtOrder, Result<Result<Arc<JwtSvid>, SignFailure>, CallError>),
    Introduced(Result<(), CallError>),
}

/// What happened.
enum Happening {
    Stop,
    Ended,
    Done(Done),
    Prepared(Keys),
    Renewed(Renewed),
    Order(Option<JwtOrder>),
    Time,
}

impl Link {
    /// Serves a connection to a server that is polled, until it ends.
    pub(in crate::sync) async fn poll(&mut self, line: Line, stop: &Stop) -> End {
        let now = Instant::now();
        let mut open = Open {
            line,
            since: now,
            schedule: Schedule::new(Jitter::random(), now),
            batch: BatchSize::FULL,
            calls: FuturesUnordered::new(),
            signing: BTreeMap::new(),
            batches: 0,
            tokens: HashSet::new(),
            polled: false,
            under_way: UnderWay::default(),
        };
        let mut end = self.serve_polled(&mut open, stop).await;
        if end.is_err() && self.proves_again(&open.under_way) {
            end = self.hear_out(&mut open.under_way, stop, end).await;
        }
        let end = end.unwrap_or_else(|error| open.end_by(error));
        self.take_back(open, matches!(end, End::Again));
        end
    }

    async fn serve_polled(&mut self, open: &mut Open, stop: &Stop) -> Result<End, LinkError> {
        loop {
            self.watch_clock();
            self.begin_polled(open).await?;
            if open.may_leave() {
                return Ok(End::Again);
            }
            match self.happens(open, stop).await {
                Happening::Stop | Happening::Order(None) => return Ok(End::Stopped),
                Happening::Ended => return Err(LinkError::Closed),
                Happening::Done(done) => self.done(open, done).await?,
                Happening::Prepared(keys) => {
                    let batch = self.prepared(&mut open.under_way, keys);
                    if !batch.is_empty() {
                        self.ask_x509(open, batch);
                    }
                }
                Happening::Renewed(result) => self.renewed(&mut open.under_way, result).await?,
                Happening::Order(Some(order)) => {
                    open.tokens.insert(order.clone());
                    let channel = open.line.channel.clone();
                    open.calls.push(Box::pin(async move {
                        let answer = signing::jwt_svid(channel, &order).await;
                        Done::Token(order, answer)
                    }));
                }
                Happening::Time => {}
            }
        }
    }

    /// Begins what came due: a poll, the node's own renewal, keys for SVIDs.
    async fn begin_polled(&mut self, open: &mut Open) -> Result<(), LinkError> {
        if open.under_way.leave_by.is_none() && open.schedule.begins(Instant::now()) {
            let channel = open.line.channel.clone();
            let poll = self.handle.read(|cache| self.memory.poll(cache, channel));
            open.calls.push(Box::pin(async move { Done::Polled(poll.await) }));
        }
        let batch = if self.may_ask(open) && open.signing.len() < BATCHES {
            open.batch.get()
        } else {
            0
        };
        let channel = open.line.channel.clone();
        self.begin(&mut open.under_way, &channel, batch).await
    }

    /// Ids of entries that a server of another kind gave mean nothing to this one; its own come with the first poll.
    fn may_ask(&self, open: &Open) -> bool {
        open.under_way.leave_by.is_none() && self.holds_polled()
    }

    async fn happens(&mut self, open: &mut Open, stop: &Stop) -> Happening {
        let may_ask = self.may_ask(open);
        let busy = !may_ask || open.under_way.preparing.is_some() || open.signing.len() >= BATCHES;
        let wake = self
            .handle
            .read(|cache| if busy { cache.next_end() } else { cache.next_wake() });
        let renew_at = match open.under_way.renewing {
            Some(_) => None,
            None => self.renewals.next_wake(),
        };
        let leaving = open.under_way.leave_by;
        let (renew_at, wake) = if leaving.is_some() {
            (None, None)
        } else {
            (renew_at, wake)
        };
        let wake = [wake, renew_at].into_iter().flatten().min();
        let deadline = if leaving.is_some() {
            leaving
        } else {
            open.schedule.next()
        };
        let room = may_ask && open.tokens.len() < TOKENS;
        let clock = Arc::clone(&self.clock);
        tokio::select! {
            biased;
            () = stop.ordered() => Happening::Stop,
            Some(done) = open.calls.next() => Happening::Done(done),
            () = open.line.ended() => Happening::Ended,
            keys = under_way(&mut open.under_way.preparing) => Happening::Prepared(keys),
            result = under_way(&mut open.under_way.renewing) => Happening::Renewed(result),
            order = next_order(&mut self.carried, &mut self.orders), if room => Happening::Order(order),
            () = self.handle.woken(), if !busy => Happening::Time,
            () = sleep_until(&*clock, wake) => Happening::Time,
            () = at(deadline) => Happening::Time,
        }
    }

    /// A call has ended.
    async fn done(&mut self, open: &mut Open, done: Done) -> Result<(), LinkError> {
        match done {
            Done::Polled(result) => self.has_polled(open, result).await,
            Done::Signed(batch, result) => self.has_signed(open, batch, result),
            Done::Token(order, result) => {
                if result.as_ref().is_err_and(CallError::broke) {
                    // The order stays among those that go over to the next connection.
                    return result.map(drop).map_err(LinkError::from);
                }
                open.tokens.remove(&order);
                let (answer, error) = match result {
                    Ok(answer) => (answer, None),
                    Err(error) => (Err(signing::failure(&error)), Some(error)),
                };
                self.answered(Answer::Jwt(order, answer));
                error.map_or(Ok(()), |error| refused(error, "no token was signed"))
            }
            Done::Introduced(result) => {
                match result {
                    Ok(()) => self.memory.introduced = true,
                    Err(error) if error.broke() => return Err(error.into()),
                    Err(error) => {
                        // It is a service to operators, and nothing depends on it.
                        debug!(
                            error = &error as &dyn std::error::Error,
                            "the server did not note this agent's version"
                        );
                        self.memory.introduced = true;
                    }
                }
                Ok(())
            }
        }
    }

    async fn has_polled(
        &mut self,
        open: &mut Open,
        result: Result<Polled, CallError>,
    ) -> Result<(), LinkError> {
        let polled = match result {
            Ok(polled) => polled,
            Err(error) if error.ends_a_connection() => return Err(error.into()),
            Err(error) => {
                self.troubled(&error);
                let hungry = self.handle.read(|cache| cache.sizes()[1] == 0);
                open.schedule.ended(Outcome::Failed { hungry }, Instant::now());
                return Ok(());
            }
        };
        let (memory, handle) = (&mut self.memory, &self.handle);
        handle
            .with(|cache, now| memory.install(polled, cache, now))
            .map_err(crate::sync::session::SessionError::from)?;
        let before = self.learn_bundle().await?;
        self.follow_authorities(&before)?;
        open.schedule.ended(Outcome::Whole, Instant::now());
        if !self.is_connected() {
            info!(server = %self.membership.state().server, "connected to a SPIRE server; it is polled");
            self.welcomed();
        }
        open.polled = true;
        self.metrics.updates.inc();
        self.heard();
        self.complete();
        self.handle.read(|cache| self.metrics.measure(cache));
        if !self.memory.introduced {
            let introducing = introduce(open.line.channel.clone(), &self.about.agent_version);
            open.calls
                .push(Box::pin(async move { Done::Introduced(introducing.await) }));
        }
        Ok(())
    }

    fn ask_x509(&mut self, open: &mut Open, batch: Vec<Prepared>) {
        open.batches += 1;
        let number = open.batches;
        let entries = batch.iter().map(|prepared| prepared.order.entry_id.clone());
        open.signing.insert(number, entries.collect());
        let (channel, clock) = (open.line.channel.clone(), Arc::clone(&self.clock));
        open.calls.push(Box::pin(async move {
            Done::Signed(number, signing::x509_svids(channel, batch, || clock.now()).await)
        }));
    }

    fn has_signed(
        &mut self,
        open: &mut Open,
        batch: u64,
        result: Result<Signed, CallError>,
    ) -> Result<(), LinkError> {
        let error = match result {
            Ok(signed) => {
                open.signing.remove(&batch);
                open.batch.succeeded();
                self.answered(Answer::X509(signed));
                return Ok(());
            }
            // The orders stay among those that are put back.
            Err(error) if error.broke() => return Err(error.into()),
            Err(error) => error,
        };
        let entries = open.signing.remove(&batch).unwrap_or_default();
        open.batch.failed(entries.len());
        if error.too_large() && entries.len() > 1 {
            warn!(
                entries = entries.len(),
                "the certificates of a batch do not fit into a message; smaller ones are asked for"
            );
            self.handle.with(|cache, now| cache.not_asked(&entries, now));
            return Ok(());
        }
        let failure = signing::failure(&error);
        let failed = entries.into_iter().map(|id| (id, Err(failure)));
        self.answered(Answer::X509(failed.collect()));
        refused(error, "no SVIDs were signed")
    }

    /// What was open when the connection ended: it goes over to the next one, or has failed.
    fn take_back(&mut self, mut open: Open, goes_on: bool) {
        let preparing = open.under_way.preparing.take().map(|(entries, _)| entries);
        let entries: Vec<EntryId> = open.signing.into_values().chain(preparing).flatten().collect();
        if goes_on {
            self.handle
                .with(|cache: &mut Cache, now| cache.not_asked(&entries, now));
            self.carried.extend(open.tokens);
        } else {
            self.answered(unreachable(entries));
            for order in open.tokens {
                self.answered(Answer::Jwt(order, Err(SignFailure::Unreachable)));
            }
        }
        if open.under_way.renewing.is_some() {
            self.renewals
                .finished(&(), Renewal::Unreachable, self.clock.now());
        }
    }
}

impl Open {
    /// Whether the connection is to be changed and nothing on it need be waited for any longer.
    fn may_leave(&self) -> bool {
        let leave_by = self.under_way.leave_by;
        leave_by.is_some_and(|by| self.calls.is_empty() || by <= Instant::now())
    }

    /// A connection that served and then broke is what SPIRE's servers do every three minutes: on at once with the next. Any other end is a failure.
    fn end_by(&self, error: LinkError) -> End {
        let broke = match &error {
            LinkError::Closed => true,
            LinkError::Call(error) => error.broke(),
            _ => false,
        };
        if broke && self.polled && self.since.elapsed() >= STEADY {
            debug!("the server ended the connection; on with the next");
            return End::Again;
        }
        End::Lost(error)
    }
}

impl CallError {
    /// Whether there is no use in going on with the connection.
    fn ends_a_connection(&self) -> bool {
        self.turns_away() || self.broke() || matches!(self, Self::Slow { .. })
    }
}

/// A call was refused: the node as a whole, or only this once.
fn refused(error: CallError, what: &'static str) -> Result<(), LinkError> {
    if error.turns_away() {
        return Err(error.into());
    }
    warn!(error = &error as &dyn std::error::Error, "{what}");
    Ok(())
}

/// Tells the server this agent's version, as SPIRE's agents do once after a start.
fn introduce(channel: Channel, version: &str) -> impl Future<Output = Result<(), CallError>> + Send + use<> {
    let request = PostStatusRequest {
        agent_version: version.chars().take(LONGEST_VERSION).collect(),
        ..PostStatusRequest::default()
    };
    async move {
        let mut client = AgentClient::new(channel);
        let answered = within(INTRODUCED_WITHIN, "PostStatus", client.post_status(request)).await;
        answered.map(drop)
    }
}

/// Returns then; never, without a time.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
