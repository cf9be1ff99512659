//! The task that keeps this node and its server together.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use muster_identity::UnixTime;
use muster_pki::KeyAlgorithm;
use muster_pki::bundle::AuthorityStanding;
use muster_plugin_api::NodeAttestor;
use muster_runtime::{Backoff, Clock, Condition, Readiness, ReadinessGuard, SigningPool, Stop};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::{debug, error, warn};

use super::kind::Kind;
use super::link_error::LinkError;
use super::metrics::LinkMetrics;
use super::session::AboutNode;
use super::spire::{CallError, Memory};
use super::timepiece::Timepiece;
use crate::attest::{Denial, Membership};
use crate::cache::{Cache, Handle, JwtOrder, SignFailure};
use crate::keep::NodeStoreError;
use crate::rotate::{Jitter, Renewals, Validity};

/// The first and the longest wait between attempts to reach the server.
const WAITS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// The wait after the server has said that it does not know this node: somebody must act first.
const WAIT_DENIED: Duration = Duration::from_secs(60);

/// How soon a node may prove itself anew a second time without waiting.
const AGAIN_AFTER: Duration = Duration::from_secs(60);

/// A connection that stood for so long is opened anew at once when it breaks.
pub(super) const STEADY: Duration = Duration::from_secs(1);
/// How long orders wait for that.
const ONE_MORE_TRY: Duration = Duration::from_secs(1);

/// How the node stands with its server.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Standing {
    /// Whether both streams are open.
    pub connected: bool,
    /// When the server was last heard.
    pub last_heard: Option<UnixTime>,
    /// Whether the server has turned this node away.
    pub denied: bool,
}

/// What the link is made of.
pub struct Parts {
    /// The cache.
    pub handle: Handle,
    /// The tokens that it orders.
    pub orders: mpsc::Receiver<JwtOrder>,
    /// The node's own state.
    pub membership: Membership,
    /// What proves the node again, if its proof lasts.
    pub attestor: Option<Arc<dyn NodeAttestor>>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where keys are made.
    pub pool: SigningPool,
    /// What keys workloads get.
    pub algorithm: KeyAlgorithm,
    /// What is told to probes.
    pub readiness: Readiness,
    /// What is counted.
    pub metrics: LinkMetrics,
    /// What this machine says of itself: kernel, distribution.
    pub facts: Vec<(String, String)>,
}

/// Keeps the node and its server together.
pub struct Link {
    pub(super) handle: Handle,
    pub(super) orders: mpsc::Receiver<JwtOrder>,
    pub(super) membership: Membership,
    pub(super) attestor: Option<Arc<dyn NodeAttestor>>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) pool: SigningPool,
    pub(super) algorithm: KeyAlgorithm,
    pub(super) metrics: LinkMetrics,
    pub(super) about: AboutNode,
    /// When the node's own certificate is renewed.
    pub(super) renewals: Renewals<()>,
    pub(super) timepiece: Timepiece,
    pub(super) readiness: Readiness,
    condition: Condition,
    /// Held until there is something to serve.
    starting: Option<ReadinessGuard>,
    standing: watch::Sender<Standing>,
    /// Whether the last attempt failed: what is ordered meanwhile fails at once.
    down: bool,
    /// Until when orders wait for a connection that is opened anew.
    orders_wait_until: Option<Instant>,
    /// Since when the server is connected.
    since: Option<Instant>,
    /// What the server was when it was last reached.
    pub(super) kind: Kind,
    /// What is known of it where it is polled.
    pub(super) memory: Memory,
    /// Orders for tokens that were on their way when a connection was changed for the next.
    pub(super) carried: VecDeque<JwtOrder>,
}

/// How one connection ended.
#[derive(Debug)]
pub(super) enum End {
    /// All is well, but it is to be done anew at once: the node has a new certificate, or the server ends connections that have reached an age.
    Again,
    /// It is to stop.
    Stopped,
    /// It broke.
    Lost(LinkError),
}

/// Whether it is known why the server ended a connection, and something was done about it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Explained {
    Yes,
    No,
}

impl Link {
    /// A link that has not connected yet.
    pub fn new(parts: Parts) -> (Self, watch::Receiver<Standing>) {
        let Parts {
            handle,
            orders,
            membership,
            attestor,
            clock,
            pool,
            algorithm,
            readiness,
            metrics,
            facts,
        } = parts;
        let mut renewals = Renewals::new(Jitter::random());
        if let Some(identity) = &membership.state().identity {
            let validity = Validity {
                received: identity.received,
                ends: identity.expires(),
            };
            renewals.held((), validity, clock.now());
            if membership.own_authority() == AuthorityStanding::Tainted {
                renewals.make_again(vec![()], 1, clock.now());
            }
        }
        let trust_domain = membership.state().trust_domain.clone();
        let kind = Kind::last_time(handle.read(Cache::position), &trust_domain);
        let (standing, stands) = watch::channel(Standing::default());
        let starting = handle
            .read(|cache| cache.position().is_none())
            .then(|| readiness.guard("entries"));
        let about = AboutNode {
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            facts,
        };
        let link = Self {
            timepiece: Timepiece::new(clock.now()),
            condition: readiness.condition("membership"),
            down: false,
            orders_wait_until: None,
            since: None,
            handle,
            orders,
            membership,
            attestor,
            clock,
            pool,
            algorithm,
            metrics,
            about,
            renewals,
            kind,
            memory: Memory::new(trust_domain),
            carried: VecDeque::new(),
            readiness,
            starting,
            standing,
        };
        (link, stands)
    }

    /// Runs until `stop`. Whatever happens to the connection, what is held stays and is served while it is valid (I11); only a ban takes it away.
    pub async fn run(mut self, stop: Stop) -> Result<(), NodeStoreError> {
        let mut backoff = Backoff::new(WAITS.0, WAITS.1);
        let mut rejoined = None;
        loop {
            let error = match self.connection(&stop).await {
                End::Stopped => return Ok(()),
                End::Again => continue,
                // A state that can't be written is not to be built upon.
                End::Lost(LinkError::Store(error)) if !error.may_retry() => return Err(error),
                End::Lost(error) => error,
            };
            let stood = self.stood();
            self.lost(&error);
            if stood.is_some() {
                backoff.reset();
            }
            let mut wait = backoff.next_wait();
            if error.is_break() && stood.is_some_and(|stood| stood >= STEADY) {
                // What broke it may have been between the two, or the next server stands there already: what is ordered meanwhile waits for one more try.
                self.down = false;
                self.orders_wait_until = Some(Instant::now() + ONE_MORE_TRY);
                wait = Duration::ZERO;
            }
            match error.denial() {
                Some(Denial::Banned) => {
                    self.banned();
                    wait = WAIT_DENIED;
                }
                Some(Denial::MustReattest) => match self.rejoin(&stop).await {
                    Ok(()) => {
                        // Two machines with one proof would put each other out for ever.
                        let lately = rejoined.is_some_and(|at: Instant| at.elapsed() < AGAIN_AFTER);
                        rejoined = Some(Instant::now());
                        wait = if lately { WAITS.1 } else { Duration::ZERO };
                    }
                    Err(LinkError::Store(error)) if !error.may_retry() => return Err(error),
                    Err(error) => wait = self.not_taken_back(&error).unwrap_or(wait),
                },
                None if stood.is_none() && error.is_unexplained() => match self.look_at_bundle(&stop).await {
                    Ok(Explained::Yes) => wait = Duration::ZERO,
                    Ok(Explained::No) => {}
                    Err(LinkError::Store(error)) if !error.may_retry() => return Err(error),
                    Err(error) => debug!(
                        error = &error as &dyn std::error::Error,
                        "the server's bundle could not be asked for"
                    ),
                },
                // Without a certificate that counts there is no other way than the one that was refused.
                Some(Denial::Other) if self.has_ended() => wait = self.not_taken_back(&error).unwrap_or(wait),
                Some(Denial::Other) | None => {}
            }
            self.meanwhile(&stop, tokio::time::sleep(wait)).await;
            if stop.is_ordered() {
                return Ok(());
            }
        }
    }

    /// The streams are open and the server has spoken.
    pub(super) fn welcomed(&mut self) {
        let now = self.clock.now();
        self.down = false;
        self.orders_wait_until = None;
        self.since = Some(Instant::now());
        self.standing.send_replace(Standing {
            connected: true,
            last_heard: Some(now),
            denied: false,
        });
        self.metrics.connected.set(1);
        self.condition.holds();
        self.readiness.note("server", None);
        self.handle.with(Cache::server_is_back);
    }

    /// Whether the node's certificate has ended.
    pub(super) fn has_ended(&self) -> bool {
        let identity = self.membership.state().identity.as_ref();
        identity.is_none_or(|own| own.expires() <= self.clock.now())
    }

    /// Whether the server answers, as far as is known.
    pub(super) fn is_connected(&self) -> bool {
        self.standing.borrow().connected
    }

    /// The connection stands, but the server can't say what this node may hand out.
    pub(super) fn troubled(&mut self, why: &CallError) {
        warn!(
            error = why as &dyn std::error::Error,
            "the server can't be polled; what is held is served while it is valid"
        );
        self.standing.send_modify(|standing| standing.connected = false);
        self.metrics.connected.set(0);
        self.readiness
            .note("server", Some(format!("can't be polled: {why}")));
        if self.handle.read(|cache| cache.position().is_some()) {
            self.complete();
        }
    }

    /// Whether the entries that are held came from a server that is polled.
    pub(super) fn holds_polled(&self) -> bool {
        self.memory.gave(self.handle.read(Cache::position))
    }

    /// The server was heard.
    pub(super) fn heard(&mut self) {
        let now = self.clock.now();
        self.standing
            .send_modify(|standing| standing.last_heard = Some(now));
    }

    /// The view is whole: what is missing from it does not exist.
    pub(super) fn complete(&mut self) {
        self.handle.contact_settled();
        self.starting = None;
    }

    /// Waits for `future`; if the server is known to be away, whoever orders meanwhile hears so at once. None: it is to stop.
    pub(super) async fn meanwhile<T>(&mut self, stop: &Stop, future: impl Future<Output = T>) -> Option<T> {
        let mut future = std::pin::pin!(future);
        loop {
            let (down, waiting) = (self.down, self.orders_wait_until);
            tokio::select! {
                biased;
                () = stop.ordered() => return None,
                done = &mut future => return Some(done),
                () = self.turn_away(), if down => {}
                () = tokio::time::sleep_until(waiting.unwrap_or_else(Instant::now)), if waiting.is_some() => {
                    self.orders_wait_until = None;
                    self.down = true;
                }
            }
        }
    }

    /// For how long the server has been connected, if it is.
    fn stood(&self) -> Option<Duration> {
        let since = self.since.filter(|_| self.standing.borrow().connected);
        since.map(|since| since.elapsed())
    }

    fn lost(&mut self, why: &LinkError) {
        // The look is over before the change begins: the two lock each other out.
        let was = *self.standing.borrow();
        self.standing.send_replace(Standing {
            connected: false,
            ..was
        });
        self.metrics.connected.set(0);
        if was.connected || !self.down {
            warn!(server = %self.membership.state().server, error = why as &dyn std::error::Error, "no connection to the server; what is held is served while it is valid");
        }
        self.readiness.note("server", Some(format!("not reached: {why}")));
        self.down = true;
        self.orders_wait_until = None;
        if self.handle.read(|cache| cache.position().is_some()) {
            // What was kept is all there is for now.
            self.complete();
        }
    }

    fn not_taken_back(&mut self, error: &LinkError) -> Option<Duration> {
        let denial = error.denial()?;
        error!(
            error = error as &dyn std::error::Error,
            "the server does not take this node back; an operator must join it again (muster-agent join)"
        );
        self.condition
            .fails("the server does not know this node any more; join it again");
        self.standing.send_modify(|standing| standing.denied = true);
        if denial == Denial::Banned {
            self.banned();
        }
        Some(WAIT_DENIED)
    }

    /// Revocation beats caches (I4): a banned node serves nothing, from this moment on.
    fn banned(&mut self) {
        error!("this node is banned; it serves nothing until an operator has lifted the ban");
        self.condition.fails("this node is banned");
        self.standing.send_modify(|standing| standing.denied = true);
        self.handle.with(Cache::forget_everything);
        self.handle.contact_settled();
    }

    /// Answers one order, or one that came due, as what it is now: impossible.
    async fn turn_away(&mut self) {
        let wake = self.handle.read(Cache::next_wake);
        let clock = Arc::clone(&self.clock);
        tokio::select! {
            Some(order) = next_order(&mut self.carried, &mut self.orders) => self.handle.token_signed(&order, Err(SignFailure::Unreachable)),
            () = self.handle.woken() => {}
            () = sleep_until(&*clock, wake) => {}
        }
        self.handle.with(|cache, now| {
            cache.tick(now);
            let due = cache.due(now, usize::MAX);
            let failed = due
                .into_iter()
                .map(|order| (order.entry_id, Err(SignFailure::Unreachable)));
            cache.signed(failed.collect(), now);
        });
        self.watch_clock();
    }

    /// Notices a clock that was set and a machine that slept.
    pub(super) fn watch_clock(&mut self) {
        let now = self.clock.now();
        if let Some(jump) = self.timepiece.jumped(now) {
            warn!(
                seconds = jump,
                "the clock was set or the machine slept; everything is renewed once"
            );
            self.handle.with(Cache::clock_was_set);
            self.renewals.clock_was_set(now);
        }
    }
}

/// The next order for a token, those first that a change of the connection has held up.
pub(super) async fn next_order(
    carried: &mut VecDeque<JwtOrder>,
    orders: &mut mpsc::Receiver<JwtOrder>,
) -> Option<JwtOrder> {
    match carried.pop_front() {
        Some(order) => Some(order),
        None => orders.recv().await,
    }
}

/// Sleeps until then; without a time, for ever.
pub(super) async fn sleep_until(clock: &dyn Clock, at: Option<UnixTime>) {
    match at {
        Some(at) => clock.sleep_until(at).await,
        None => std::future::pending().await,
    }
}
