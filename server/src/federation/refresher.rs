//! The task round [`Refreshes`]: it fetches what is due and takes what comes.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::{AbortHandle, Abortable, Aborted, BoxFuture};
use futures_util::stream::FuturesUnordered;
use muster_audit::Audit;
use muster_identity::{Revision, TrustDomain, UnixTime};
use muster_runtime::{Clock, Readiness, Stop};
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};

use super::adopt::Adopter;
use super::fetch::{FetchError, Fetcher};
use super::handle::{Federation, RefreshError, Wish};
use super::refresh::{Order, Outcome, Refreshes};
use super::status::{PeerStatus, Statuses};
use super::take::{Came, TakeError, take};
use super::{Peers, Profile, Source};
use crate::bundles::Bundles;
use crate::registry::Registry;
use crate::store::Tree;

/// How many peers are asked at once. Those that are only waited for do not count.
const AT_ONCE: usize = 32;
/// How many wishes may wait for the task.
const WISHES: usize = 256;
/// How often alarms are looked at.
const LOOK: Duration = Duration::from_secs(5);

/// Keeps the peers' bundles fresh. Somebody must run it.
pub struct Refresher {
    fetcher: Fetcher,
    adopter: Adopter,
    statuses: Statuses,
    clock: Arc<dyn Clock>,
    wishes: mpsc::Receiver<Wish>,
    machine: Refreshes<Source>,
    /// The relationships that the machine goes by are those of this revision.
    known_at: Option<Revision>,
    running: FuturesUnordered<Running>,
    /// What runs, and whether it only waits.
    handles: BTreeMap<TrustDomain, (AbortHandle, bool)>,
    asked: BTreeMap<TrustDomain, Vec<oneshot::Sender<Result<(), RefreshError>>>>,
    /// How many run that do not only wait.
    asking: usize,
}

type Running = Abortable<BoxFuture<'static, Ended>>;

/// What came of one order.
struct Ended {
    order: Order<Source>,
    came: Result<Came, String>,
    /// Another trust domain, whose bundle lacks the authority of this one's endpoint.
    unknown: Option<TrustDomain>,
}

impl Refresher {
    /// The task, and the handle on it.
    pub fn new(
        fetcher: Fetcher,
        registry: Registry,
        bundles: Bundles,
        peers: Peers,
        audit: Audit,
        clock: Arc<dyn Clock>,
    ) -> (Self, Federation) {
        let (wishes, wished) = mpsc::channel(WISHES);
        let statuses = Statuses::default();
        let federation = Federation {
            wishes,
            statuses: statuses.clone(),
            peers: peers.clone(),
        };
        let mut seed = [0; 8];
        // Without random bytes all servers jitter alike, which is a loss but no danger.
        aws_lc_rs::rand::fill(&mut seed).ok();
        let refresher = Self {
            fetcher,
            adopter: Adopter {
                registry,
                bundles,
                peers,
                audit,
            },
            statuses,
            clock,
            wishes: wished,
            machine: Refreshes::new(u64::from_le_bytes(seed)),
            known_at: None,
            running: FuturesUnordered::new(),
            handles: BTreeMap::new(),
            asked: BTreeMap::new(),
            asking: 0,
        };
        (refresher, federation)
    }

    /// Refreshes until the stop is ordered. Nothing of a peer can end it.
    pub async fn run(mut self, readiness: Readiness, stop: Stop) -> Result<(), Infallible> {
        let mut changes = self.adopter.registry.subscribe();
        let mut look = tokio::time::interval(LOOK);
        let mut alarmed = BTreeMap::new();
        loop {
            self.follow_relationships();
            self.begin();
            let clock = Arc::clone(&self.clock);
            // Without room the next thing is that something ends.
            let room = self.asking < AT_ONCE;
            let wake = self.machine.next_wake().filter(|_| room);
            tokio::select! {
                () = stop.ordered() => return Ok(()),
                Some(ended) = self.running.next(), if !self.running.is_empty() => self.ended(ended),
                Some(wish) = self.wishes.recv() => self.wished(wish),
                changed = changes.changed() => if changed.is_err() { return Ok(()) },
                () = sleep_until(&*clock, wake) => {}
                _ = look.tick() => self.look(&readiness, &mut alarmed),
            }
        }
    }

    /// Takes over who is there. Costs one comparison when no relationship changed.
    fn follow_relationships(&mut self) {
        let view = self.adopter.registry.view();
        let changed = view.changed_at(Tree::Relationships);
        if self.known_at == Some(changed) {
            return;
        }
        self.known_at = Some(changed);
        // The bundle to begin with came in the same commit as its relationship: the first fetch must find it. A record that can't be read is told by
        // the task that follows all bundles.
        self.adopter.bundles.refresh(&view).ok();
        let counting = self
            .adopter
            .peers
            .all(&view)
            .into_iter()
            .filter_map(|(name, peer)| {
                let relationship = peer.relationship;
                let source = relationship.source.filter(|_| relationship.revoked_at.is_none());
                source.map(|source| (name, source))
            });
        let wanted: BTreeMap<TrustDomain, Source> = counting.collect();
        let now = self.clock.now();
        for gone in self.machine.set(&wanted, now) {
            self.give_up(&gone);
        }
        let machine = &self.machine;
        self.statuses.retain(|name| machine.knows(name));
        for name in wanted.keys() {
            self.statuses.change(name, |status| {
                status.since.get_or_insert(now);
            });
        }
        self.asked.retain(|name, waiting| {
            let stays = machine.knows(name);
            if !stays {
                for answer in waiting.drain(..) {
                    answer.send(Err(RefreshError::Unknown(name.clone()))).ok();
                }
            }
            stays
        });
    }

    fn give_up(&mut self, trust_domain: &TrustDomain) {
        if let Some((handle, waits)) = self.handles.remove(trust_domain) {
            handle.abort();
            self.asking = self.asking.saturating_sub(usize::from(!waits));
        }
    }

    fn begin(&mut self) {
        let now = self.clock.now();
        let free = AT_ONCE.saturating_sub(self.asking);
        for order in self.machine.due(now, free) {
            self.give_up(&order.trust_domain);
            self.asking += usize::from(!order.wait);
            let (handle, registration) = AbortHandle::new_pair();
            self.handles
                .insert(order.trust_domain.clone(), (handle, order.wait));
            let name = &order.trust_domain;
            let status = self.statuses.get(name);
            self.statuses.change(name, |status| status.asked_at = Some(now));
            let fetching = fetching(self.fetcher.clone(), self.adopter.clone(), order, status.tag);
            let fetching: BoxFuture<'static, Ended> = Box::pin(fetching);
            self.running.push(Abortable::new(fetching, registration));
        }
    }

    fn ended(&mut self, ended: Result<Ended, Aborted>) {
        // One that waited and was given up, or one of a peer that is gone, is out of the books already.
        let Ok(Ended { order, came, unknown }) = ended else {
            return;
        };
        self.asking = self.asking.saturating_sub(usize::from(!order.wait));
        let (name, now) = (&order.trust_domain, self.clock.now());
        self.handles.remove(name);
        let outcome = match &came {
            Ok(came) => Outcome::Fetched {
                interval: came.interval,
                pushes: came.pushes,
            },
            Err(_) => Outcome::Failed,
        };
        self.machine.finished(name, outcome, now);
        if let Some(other) = unknown {
            self.machine.met_unknown_key(&other, now);
        }
        for answer in self.asked.remove(name).into_iter().flatten() {
            let told = came
                .as_ref()
                .map(|_| ())
                .map_err(|why| RefreshError::Failed(why.clone()));
            answer.send(told).ok();
        }
        let before = self.statuses.get(name);
        match came {
            Ok(came) => {
                if before.failure.is_some() {
                    info!(trust_domain = %name, "the peer's bundle is refreshed again");
                }
                self.statuses.change(name, |status| confirmed(status, came, now));
            }
            Err(why) => {
                // A wait that broke off says nothing yet: the next try tells.
                if before.failure.as_ref() != Some(&why) && !order.wait {
                    warn!(trust_domain = %name, why, "the peer's bundle was not refreshed; the one that is held stays");
                }
                if !order.wait {
                    self.statuses.change(name, |status| {
                        status.failures = status.failures.saturating_add(1);
                        status.pushes = false;
                        status.failure = Some(why);
                    });
                }
            }
        }
    }

    fn wished(&mut self, wish: Wish) {
        // A relationship that was made just before is known now.
        self.follow_relationships();
        let now = self.clock.now();
        match wish {
            Wish::Refresh(name, answer) => {
                if self.machine.refresh_now(&name, now) {
                    self.asked.entry(name).or_default().push(answer);
                } else {
                    answer.send(Err(RefreshError::Unknown(name))).ok();
                }
            }
            Wish::UnknownKey(name) => self.machine.met_unknown_key(&name, now),
        }
    }

    /// Tells operators about bundles that grow old: beside readiness, and once in the log.
    fn look(&self, readiness: &Readiness, alarmed: &mut BTreeMap<TrustDomain, ()>) {
        let now = self.clock.now();
        let mut notes = Vec::new();
        for (name, status) in self.statuses.all() {
            match status.alarm(now) {
                Some(alarm) => {
                    if alarmed.insert(name.clone(), ()).is_none() {
                        error!(trust_domain = %name, alarm, "a peer's bundle grows old; `muster federation doctor` tells more");
                    }
                    notes.push(format!("{name}: {alarm}"));
                }
                None => drop(alarmed.remove(&name)),
            }
        }
        readiness.note("federation", (!notes.is_empty()).then(|| notes.join("; ")));
    }
}

fn confirmed(status: &mut PeerStatus, came: Came, now: UnixTime) {
    status.confirmed_at = Some(now);
    status.failure = None;
    status.failures = 0;
    status.interval = Some(came.interval);
    status.pushes = came.pushes;
    status.tag = came.tag;
    if let Some(remarks) = came.remarks {
        status.remark(remarks);
    }
}

async fn fetching(fetcher: Fetcher, adopter: Adopter, order: Order<Source>, tag: Option<String>) -> Ended {
    let came = take(&fetcher, &adopter, &order, tag).await;
    let unknown = match (&came, &order.source) {
        (
            Err(TakeError::Fetch(error)),
            Source::Endpoint {
                profile: Profile::Spiffe(id),
                ..
            },
        ) if error.is_unknown_authority() && *id.trust_domain() != order.trust_domain => {
            Some(id.trust_domain().clone())
        }
        _ => None,
    };
    let came = came.map_err(|error| FetchError::story(&error as &dyn Error));
    Ended { order, came, unknown }
}

async fn sleep_until(clock: &dyn Clock, at: Option<UnixTime>) {
    match at {
        Some(at) => clock.sleep_until(at).await,
        None => std::future::pending().await,
    }
}
