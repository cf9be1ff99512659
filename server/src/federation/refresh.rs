//! When each peer's bundle is fetched. Events and time in, orders out; no IO.
//!
//! ```text
//! set (who is there) ─┐                    ┌─ due → Order{wait: false}: ask now
//! finished ───────────┼─ when is it due? ──┤
//! met_unknown_key ────┘                    └─ due → Order{wait: true}: ask to be told when there is something new
//! ```
//!
//! The peer's own hint decides (Federation 4.1), a little earlier each time so that thousands of servers don't come in the same second. After a failure the next
//! try is at the next interval, not at once (Federation 6.2); a peer of which nothing is known yet is tried sooner, less and less often. What others can
//! cause (a key that nobody knows, an endpoint that answers as fast as it is asked) is bounded per peer.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_identity::{TrustDomain, UnixTime};

/// The waits before a peer is tried again of which nothing is known: the first, and the longest.
const UNKNOWN: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));
/// How often keys that nobody knows make us look early, at most.
const EARLY: Duration = Duration::from_secs(30);
/// How many times in a row an endpoint that pushes may answer at once, and how long it takes until it may once more: each answer may be a commit. Shorter than an
/// authority is published before it signs, even where authorities live for a minute.
const PUSHES: u32 = 10;
const PUSH_EVERY: Duration = Duration::from_secs(15);
/// How soon a broken wait is followed by one more try.
const REDIAL: Duration = Duration::from_secs(3);

/// All peers, and when each is due.
#[derive(Debug)]
pub struct Refreshes<S> {
    peers: BTreeMap<TrustDomain, Peer<S>>,
    draw: Draw,
}

#[derive(Debug)]
struct Peer<S> {
    source: S,
    due: UnixTime,
    running: Option<Running>,
    /// Asked for by somebody: not by way of waiting.
    now: bool,
    pushes: bool,
    failures: u32,
    /// Of the last bundle that came; none before the first.
    interval: Option<Duration>,
    early_from: UnixTime,
    room: u32,
    room_at: UnixTime,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Running {
    Asking,
    Waiting,
}

/// One fetch to begin. One of the same peer that still waits is given up for it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Order<S> {
    /// Whose bundle.
    pub trust_domain: TrustDomain,
    /// From where.
    pub source: S,
    /// Whether the endpoint may keep us waiting until it has something new.
    pub wait: bool,
}

/// How a fetch ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// A bundle was there.
    Fetched {
        /// How often to ask, by its hint.
        interval: Duration,
        /// Whether the endpoint tells when there is something new.
        pushes: bool,
    },
    /// None was, or none that counts.
    Failed,
}

impl<S: Clone + PartialEq> Refreshes<S> {
    /// Nobody yet. `seed` makes the jitter.
    pub fn new(seed: u64) -> Self {
        Self {
            peers: BTreeMap::new(),
            draw: Draw(seed | 1),
        }
    }

    /// Exactly these peers are there. One that is new, or whose bundle comes from elsewhere now, is due at once. Answers those that are gone or come from elsewhere:
    /// what runs for them is to be given up.
    pub fn set(&mut self, wanted: &BTreeMap<TrustDomain, S>, now: UnixTime) -> Vec<TrustDomain> {
        let stale = self
            .peers
            .iter()
            .filter(|(name, peer)| wanted.get(*name) != Some(&peer.source));
        let stale: Vec<TrustDomain> = stale.map(|(name, _)| name.clone()).collect();
        for name in &stale {
            self.peers.remove(name);
        }
        for (name, source) in wanted {
            self.peers.entry(name.clone()).or_insert_with(|| Peer {
                source: source.clone(),
                due: now,
                running: None,
                now: true,
                pushes: false,
                failures: 0,
                interval: None,
                early_from: now,
                room: PUSHES,
                room_at: now,
            });
        }
        stale
    }

    /// Whether the peer is there.
    pub fn knows(&self, trust_domain: &TrustDomain) -> bool {
        self.peers.contains_key(trust_domain)
    }

    /// When a peer is due, unless it is being asked.
    pub fn due_at(&self, trust_domain: &TrustDomain) -> Option<UnixTime> {
        let peer = self.peers.get(trust_domain)?;
        peer.running.is_none().then_some(peer.due)
    }

    /// When there is something to do next.
    pub fn next_wake(&self) -> Option<UnixTime> {
        let idle = self.peers.values().filter(|peer| peer.running.is_none());
        idle.map(|peer| peer.due).min()
    }

    /// At most `most` fetches that are due, those first that have been for the longest: no name keeps others from their turn. Each needs a [`Refreshes::finished`], unless another order of its peer replaces it.
    pub fn due(&mut self, now: UnixTime, most: usize) -> Vec<Order<S>> {
        let due = self.peers.iter_mut().filter(|(_, peer)| {
            peer.due <= now && peer.running != Some(Running::Asking) && (peer.running.is_none() || peer.now)
        });
        let mut due: Vec<_> = due.collect();
        due.sort_by_key(|(_, peer)| peer.due);
        let orders = due.into_iter().take(most).map(|(name, peer)| {
            let wait = peer.pushes && !std::mem::take(&mut peer.now);
            peer.running = Some(if wait { Running::Waiting } else { Running::Asking });
            peer.now = false;
            Order {
                trust_domain: name.clone(),
                source: peer.source.clone(),
                wait,
            }
        });
        orders.collect()
    }

    /// Somebody wants to have it now. False when there is no such peer.
    pub fn refresh_now(&mut self, trust_domain: &TrustDomain, now: UnixTime) -> bool {
        let Some(peer) = self.peers.get_mut(trust_domain) else {
            return false;
        };
        if peer.running != Some(Running::Asking) {
            peer.due = now;
            peer.now = true;
        }
        true
    }

    /// A key of the peer was met that its bundle lacks. Looks early, but not for each such key.
    pub fn met_unknown_key(&mut self, trust_domain: &TrustDomain, now: UnixTime) {
        let Some(peer) = self.peers.get_mut(trust_domain) else {
            return;
        };
        if now >= peer.early_from && peer.running != Some(Running::Asking) {
            peer.early_from = now.saturating_add(EARLY);
            peer.due = now;
            peer.now = true;
        }
    }

    /// A fetch has ended.
    pub fn finished(&mut self, trust_domain: &TrustDomain, outcome: Outcome, now: UnixTime) {
        let draw = &mut self.draw;
        let Some(peer) = self.peers.get_mut(trust_domain) else {
            return;
        };
        let waited = peer.running.take() == Some(Running::Waiting);
        if peer.now {
            // Asked for while it ran: the order for that is still to be given.
            peer.due = now;
        }
        match outcome {
            Outcome::Fetched { interval, pushes } => {
                peer.failures = 0;
                peer.interval = Some(interval);
                peer.pushes = pushes;
                let after = if pushes {
                    peer.push_room(now)
                } else {
                    draw.little_less(interval)
                };
                if !peer.now {
                    peer.due = now.saturating_add(after);
                }
            }
            Outcome::Failed => {
                peer.failures = peer.failures.saturating_add(1);
                peer.pushes = false;
                let after = match peer.interval {
                    // The peer may just have been started anew; were it gone, one try tells nobody anything.
                    _ if waited => draw.little_less(REDIAL),
                    Some(interval) => draw.little_less(interval),
                    None => {
                        let (first, longest) = UNKNOWN;
                        let doubled = first.saturating_mul(1 << (peer.failures - 1).min(8));
                        draw.little_less(doubled.min(longest))
                    }
                };
                if !peer.now {
                    peer.due = now.saturating_add(after.max(Duration::from_secs(1)));
                }
            }
        }
    }
}

impl<S> Peer<S> {
    /// How long until the endpoint may be asked to wait again.
    fn push_room(&mut self, now: UnixTime) -> Duration {
        let passed = now.since(self.room_at).as_secs() / PUSH_EVERY.as_secs();
        if passed > 0 {
            self.room_at = now;
            self.room = self
                .room
                .saturating_add(u32::try_from(passed).unwrap_or(PUSHES))
                .min(PUSHES);
        }
        match self.room.checked_sub(1) {
            Some(left) => {
                self.room = left;
                Duration::ZERO
            }
            None => {
                // The place that comes free by then is taken.
                self.room_at = now.saturating_add(PUSH_EVERY);
                PUSH_EVERY
            }
        }
    }
}

/// Numbers for the jitter. They need not be secret.
#[derive(Debug)]
struct Draw(u64);

impl Draw {
    /// Four to five fifths of it.
    fn little_less(&mut self, whole: Duration) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let part = u32::try_from(self.0 >> 40).unwrap_or(0) % 1_000;
        whole.mul_f64(0.8 + f64::from(part) / 5_000.0)
    }
}

#[cfg(test)]
mod tests;
