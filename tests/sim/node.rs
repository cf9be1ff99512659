use std::collections::BTreeMap;

use muster_agent::rotate::{Jitter, Outcome, Renewals, Validity as Held};
use muster_identity::UnixTime;

use crate::server::{Bundle, Leaf, Server};

/// How many SVIDs a node makes again in a second.
const A_SECOND: usize = 100;

/// A node agent: a copy of the bundle, a leaf for each entry, and the real plan of renewals.
pub(crate) struct Node {
    /// How long the leaf of each entry is to live.
    lifetimes: Vec<u32>,
    pub(crate) leaves: BTreeMap<usize, (Leaf, Held)>,
    renewals: Renewals<usize>,
    pub(crate) bundle: Bundle,
    pub(crate) sequence: u64,
    pub(crate) connected: bool,
    /// Since when, if it ever was away.
    pub(crate) connected_at: i64,
    /// It is connected, but does nothing.
    pub(crate) hangs: bool,
    /// How far its clock is ahead.
    ahead: i64,
    seed: u64,
}

impl Node {
    pub(crate) fn new(lifetimes: Vec<u32>, seed: u64) -> Self {
        let mut node = Self {
            lifetimes,
            leaves: BTreeMap::new(),
            renewals: Renewals::new(Jitter::seeded(seed)),
            bundle: Bundle::new(),
            sequence: 0,
            connected: true,
            connected_at: 0,
            hangs: false,
            ahead: 0,
            seed,
        };
        node.want_all(0);
        node
    }

    pub(crate) fn clock(&self, now: i64) -> UnixTime {
        UnixTime::from_secs(now + self.ahead)
    }

    pub(crate) fn next_wake(&self, now: i64) -> Option<i64> {
        let wake = self.renewals.next_wake().filter(|_| !self.hangs)?;
        Some((wake.as_secs() - self.ahead).max(now))
    }

    /// Takes over the server's bundle, as `Cache::install_bundles` does.
    pub(crate) fn learn(&mut self, server: &Server, now: i64) {
        if self.sequence == server.sequence {
            return;
        }
        let clock = self.clock(now);
        let before = std::mem::replace(&mut self.bundle, server.bundle.clone());
        self.sequence = server.sequence;
        let gone =
            |authority: &String| before.contains_key(authority) && !self.bundle.contains_key(authority);
        let newly = |authority: &String| {
            self.bundle.get(authority) == Some(&true) && before.get(authority) != Some(&true)
        };
        let (mut lost, mut stale) = (Vec::new(), Vec::new());
        for (entry, (leaf, _)) in &self.leaves {
            if gone(&leaf.authority) {
                lost.push(*entry);
            } else if newly(&leaf.authority) {
                stale.push(*entry);
            }
        }
        for entry in lost {
            self.leaves.remove(&entry);
            self.renewals.want(entry, clock);
        }
        self.renewals.make_again(stale, A_SECOND, clock);
    }

    /// Does what is due; the leaves that were signed.
    pub(crate) fn turn(&mut self, server: &Server, now: i64) -> Vec<Leaf> {
        let clock = self.clock(now);
        self.leaves.retain(|_, (_, held)| held.ends > clock);
        if self.hangs {
            return Vec::new();
        }
        let mut signed = Vec::new();
        for entry in self.renewals.due(clock, usize::MAX) {
            let leaf = Some(server)
                .filter(|_| self.connected)
                .and_then(|server| server.sign(self.lifetimes[entry], now));
            let Some(leaf) = leaf else {
                self.renewals.finished(&entry, Outcome::Unreachable, clock);
                continue;
            };
            let held = Held {
                received: clock,
                ends: leaf.validity.not_after,
            };
            self.renewals.finished(&entry, Outcome::Issued(held), clock);
            if held.ends > clock {
                self.leaves.insert(entry, (leaf.clone(), held));
            }
            signed.push(leaf);
        }
        signed
    }

    pub(crate) fn connects(&mut self, now: i64) {
        self.connected = true;
        self.connected_at = now;
        self.renewals.hurry(self.clock(now));
    }

    /// Takes up what it kept, as `Cache::restore` does.
    pub(crate) fn restart(&mut self, now: i64) {
        self.seed = self.seed.wrapping_add(1);
        self.renewals = Renewals::new(Jitter::seeded(self.seed));
        let clock = self.clock(now);
        let bundle = &self.bundle;
        self.leaves
            .retain(|_, (leaf, held)| held.ends > clock && bundle.contains_key(&leaf.authority));
        for (entry, (_, held)) in &self.leaves {
            self.renewals.held(*entry, *held, clock);
        }
        let tainted = |leaf: &Leaf| bundle.get(&leaf.authority) == Some(&true);
        let stale = self.leaves.iter().filter(|(_, (leaf, _))| tainted(leaf));
        let stale = stale.map(|(entry, _)| *entry).collect();
        self.renewals.make_again(stale, A_SECOND, clock);
        self.want_all(now);
    }

    /// Its clock is set; it notices.
    pub(crate) fn set_clock(&mut self, ahead: i64, now: i64) {
        self.ahead = ahead;
        self.renewals.clock_was_set(self.clock(now));
    }

    /// The entries for which nothing is held that counts by its clock.
    pub(crate) fn without(&self, now: i64) -> usize {
        let clock = self.clock(now);
        let held = self.leaves.values().filter(|(_, held)| held.ends > clock);
        self.lifetimes.len() - held.count()
    }

    /// How many leaves it holds below tainted authorities.
    pub(crate) fn outdated(&self) -> usize {
        let tainted = |leaf: &Leaf| self.bundle.get(&leaf.authority) == Some(&true);
        self.leaves.values().filter(|(leaf, _)| tainted(leaf)).count()
    }

    fn want_all(&mut self, now: i64) {
        let clock = self.clock(now);
        (0..self.lifetimes.len()).for_each(|entry| self.renewals.need(entry, clock));
    }
}
