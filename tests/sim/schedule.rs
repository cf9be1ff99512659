use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use muster_agent::rotate::Jitter;
use muster_server::ca::life::{Command, SHORTEST, Spread, longest_leaf};

use crate::node::Node;
use crate::server::{Leaf, Server};

/// How long after a disturbance everything must be whole again: the longest wait of a renewal after failures, with its jitter, and a second round.
const HEALED: i64 = 150;

/// One world, until enough leaves were signed in it.
pub(crate) struct Schedule {
    dice: Jitter,
    server: Server,
    nodes: Vec<Node>,
    wanted: usize,
    signed: usize,
    /// What was signed and counts still, by verifiers' clocks.
    live: Vec<Leaf>,
    /// Authorities whose first leaf was looked at.
    begun: BTreeSet<String>,
    /// What comes to an end, and when.
    ends: BTreeMap<(i64, u64), Trouble>,
    troubles: u64,
    next_trouble: i64,
    pace: i64,
    clock_steps: i64,
    disturbed: i64,
    /// An operator's rotation: the one that is to be tainted, then revoked.
    rotating: Option<(String, Step)>,
}

/// What a schedule came to.
pub(crate) struct Figures {
    pub(crate) leaves: u64,
    pub(crate) activations: u32,
    pub(crate) revoked: u64,
    pub(crate) seconds: i64,
}

#[derive(Clone, Copy, Debug)]
enum Trouble {
    ServerIsDown,
    NodeIsAway(usize),
    NodeHangs(usize),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Step {
    Activate,
    Taint,
    Revoke,
}

impl Schedule {
    pub(crate) fn new(seed: u64, wanted: usize) -> Self {
        let mut dice = Jitter::seeded(seed);
        // From the shortest life that there may be to a month, each order of magnitude as likely.
        let magnitude = dice.between(0, 15);
        let shortest = i64::try_from(SHORTEST.as_secs()).unwrap();
        let life = dice.between(
            shortest << magnitude,
            (shortest << (magnitude + 1)).min(30 * 86_400),
        );
        let life = Duration::from_secs(u64::try_from(life.max(shortest)).unwrap());
        let longest = longest_leaf(life);
        let most = i64::try_from(longest.as_secs()).unwrap().max(2);
        let nodes = (0..dice.between(1, 5)).map(|_| {
            let lifetimes = (0..dice.between(1, 10)).map(|_| {
                let share = dice.between(1, 100);
                u32::try_from((most * share / 100).max(2)).unwrap()
            });
            Node::new(lifetimes.collect(), dice.between(0, i64::MAX).unsigned_abs())
        });
        let nodes: Vec<Node> = nodes.collect();
        let seconds = i64::try_from(life.as_secs()).unwrap();
        Self {
            server: Server::new(life, longest),
            nodes,
            wanted,
            signed: 0,
            live: Vec::new(),
            begun: BTreeSet::new(),
            ends: BTreeMap::new(),
            troubles: 0,
            next_trouble: dice.between(1, seconds),
            pace: (seconds / 4).max(2),
            // What is past its end stays in the bundle for as long as it lived, a day at most: clocks may be that wrong.
            clock_steps: (seconds / 2).min(43_200) * dice.between(0, 1),
            disturbed: 0,
            rotating: None,
            dice,
        }
    }

    pub(crate) fn run(mut self) -> Figures {
        let mut now = 0;
        // The server makes its authorities before it opens its door.
        while self.server.turn(now, Spread::Everywhere) {}
        while self.signed < self.wanted {
            self.settle(now);
            assert!(now < i64::MAX / 4, "time goes on and nothing is signed");
            let wakes = self.nodes.iter().filter_map(|node| node.next_wake(now));
            let wakes = wakes.chain(self.server.next_wake(now));
            let next = wakes
                .chain(self.ends.keys().next().map(|(at, _)| *at))
                .chain([self.next_trouble])
                .min()
                .unwrap();
            now = next.max(now + 1);
            self.troubles_end(now);
            if self.next_trouble <= now {
                self.trouble(now);
                self.next_trouble = now + self.dice.between(1, self.pace);
            }
        }
        Figures {
            leaves: u64::try_from(self.signed).unwrap(),
            activations: self.server.activations,
            revoked: u64::try_from(self.server.revoked.len()).unwrap(),
            seconds: now,
        }
    }

    /// Everything that happens at this second.
    fn settle(&mut self, now: i64) {
        loop {
            let sequence = self.server.sequence;
            if self.server.up {
                for node in self.nodes.iter_mut().filter(|node| node.connected && !node.hangs) {
                    node.learn(&self.server, now);
                }
                self.rotate(now);
                let spread = if self
                    .nodes
                    .iter()
                    .all(|node| !node.connected || node.sequence == self.server.sequence)
                {
                    Spread::Everywhere
                } else {
                    Spread::Underway
                };
                let did = self.server.turn(now, spread);
                if did || self.server.sequence != sequence {
                    self.verify(now);
                    continue;
                }
            }
            break;
        }
        for at in 0..self.nodes.len() {
            let signed = self.nodes[at].turn(&self.server, now);
            for leaf in signed {
                self.signed += 1;
                self.first_of_its_authority(&leaf, now);
                self.live.push(leaf);
            }
        }
        self.verify_whole(now);
    }

    /// Every verifier with the bundle of this moment accepts every leaf that counts.
    fn verify(&mut self, now: i64) {
        let clock = muster_identity::UnixTime::from_secs(now);
        // What begins to count only later by the verifiers' clocks stays on the list.
        self.live.retain(|leaf| clock <= leaf.validity.not_after);
        for leaf in self.live.iter().filter(|leaf| leaf.validity.contains(clock)) {
            let revoked = self.server.revoked.contains(&leaf.authority);
            assert!(
                self.server.bundle.contains_key(&leaf.authority) || revoked,
                "at {now} a verifier refuses {leaf:?}"
            );
        }
        for leaf in &self.live {
            let revoked = self.server.revoked.contains(&leaf.authority);
            assert!(
                !(revoked && self.server.bundle.contains_key(&leaf.authority)),
                "a revoked authority came back"
            );
        }
    }

    /// I8: when an authority signs first, every node holds it that is connected since before it was to sign, or ten seconds have passed; by a clock that is set they may be
    /// over at once. Who does not hang is told at once and holds it in any case.
    fn first_of_its_authority(&mut self, leaf: &Leaf, now: i64) {
        if !self.begun.insert(leaf.authority.clone()) {
            return;
        }
        let waited = now - self.server.published[&leaf.authority] >= 10 || self.clock_steps > 0;
        let activated = self.server.activated[&leaf.authority];
        for node in self.nodes.iter().filter(|node| node.connected) {
            let excused = waited || node.connected_at >= activated;
            assert!(
                node.bundle.contains_key(&leaf.authority) || node.hangs && excused,
                "at {now} {leaf:?} is of an authority that a node does not know"
            );
        }
    }

    /// Long after the last trouble nothing is missing anywhere. Where clocks differ by more than a leaf lives, nobody can help that.
    fn verify_whole(&self, now: i64) {
        if !self.ends.is_empty() || now < self.disturbed + HEALED {
            return;
        }
        for node in self
            .nodes
            .iter()
            .filter(|node| node.clock(now) == self.server.clock(now))
        {
            assert_eq!(
                node.without(now),
                0,
                "a node lacks SVIDs at {now} though nothing was amiss since {}",
                self.disturbed
            );
        }
    }

    fn trouble(&mut self, now: i64) {
        let which =
            usize::try_from(self.dice.between(0, i64::try_from(self.nodes.len()).unwrap() - 1)).unwrap();
        let long = now + self.length();
        match self.dice.between(0, 9) {
            0 if self.server.up => {
                self.server.up = false;
                self.until(long, Trouble::ServerIsDown);
            }
            1 => {
                self.server.restart();
                self.rotating = None;
            }
            2 if self.nodes[which].connected => {
                self.nodes[which].connected = false;
                self.until(long, Trouble::NodeIsAway(which));
            }
            3 if !self.nodes[which].hangs => {
                self.nodes[which].hangs = true;
                self.until(long, Trouble::NodeHangs(which));
            }
            4 => self.nodes[which].restart(now),
            5 => self.server.ahead = self.offset(),
            6 => {
                let ahead = self.offset();
                self.nodes[which].set_clock(ahead, now);
            }
            7 if self.server.up => self.server.command(&Command::Prepare, now),
            8 | 9 if self.server.up && self.rotating.is_none() => {
                self.server.command(&Command::Prepare, now);
                if let (Some(next), Some(before)) = (self.server.prepared(), self.server.active()) {
                    let (next, before) = (next.id.clone(), before.id.clone());
                    self.server.command(&Command::Activate(next), now);
                    self.rotating = Some((before, Step::Activate));
                }
                // A rotation is no trouble.
                return;
            }
            _ => return,
        }
        self.disturbed = now;
    }

    /// How long a trouble lasts. Mostly short: below authorities of a month, tries that fail for days would be all that there is to see.
    fn length(&mut self) -> i64 {
        let most = if self.dice.between(0, 19) == 0 {
            20_000
        } else {
            600
        };
        self.dice.between(1, self.pace.min(most))
    }

    /// How wrong a clock is from now on; as often as not it is set right.
    fn offset(&mut self) -> i64 {
        let wrong = self.dice.between(-self.clock_steps, self.clock_steps);
        wrong * self.dice.between(0, 1)
    }

    fn until(&mut self, at: i64, trouble: Trouble) {
        self.troubles += 1;
        self.ends.insert((at, self.troubles), trouble);
    }

    fn troubles_end(&mut self, now: i64) {
        while let Some((key, trouble)) = self.ends.first_key_value().map(|(key, trouble)| (*key, *trouble))
            && key.0 <= now
        {
            self.ends.remove(&key);
            self.disturbed = now;
            match trouble {
                Trouble::ServerIsDown => {
                    self.server.up = true;
                    self.server.restart();
                    for node in self.nodes.iter_mut().filter(|node| node.connected) {
                        node.connects(now);
                    }
                }
                Trouble::NodeIsAway(which) => self.nodes[which].connects(now),
                Trouble::NodeHangs(which) => self.nodes[which].hangs = false,
            }
        }
    }

    /// What the operator who rotates does next: taints when the next one signs, revokes when no connected node holds anything of the old one.
    fn rotate(&mut self, now: i64) {
        let Some((before, step)) = self.rotating.clone() else {
            return;
        };
        match step {
            Step::Activate if self.server.active().is_some_and(|active| active.id != before) => {
                self.rotating = Some((before, Step::Taint));
            }
            Step::Activate if self.server.prepared().is_none() => self.rotating = None,
            Step::Activate => {}
            Step::Taint => {
                self.server.command(&Command::Taint(before.clone()), now);
                self.rotating = Some((before, Step::Revoke));
            }
            Step::Revoke => {
                let busy = |node: &Node| node.connected && (node.hangs || node.outdated() > 0);
                if self.nodes.iter().any(busy) {
                    return;
                }
                self.server.command(&Command::Revoke(before.clone()), now);
                assert!(
                    self.server.newest_old().is_none_or(|old| old.id != before)
                        || self.server.bundle.contains_key(&before)
                );
                self.rotating = None;
                // Who was away holds what counts no more.
                if self.nodes.iter().any(|node| !node.connected) {
                    self.disturbed = now;
                }
            }
        }
    }
}
