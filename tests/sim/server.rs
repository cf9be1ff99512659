use std::collections::BTreeMap;
use std::time::Duration;

use muster_identity::{Lifetime, UnixTime};
use muster_pki::x509::{BACKDATE, Validity, leaf_validity};
use muster_server::ca::Kind;
use muster_server::ca::life::{self, Authority, Command, Order, Published, Spread, Stage, decide};

/// A bundle: the authorities in it, and which of them are tainted.
pub(crate) type Bundle = BTreeMap<String, bool>;

/// Something that was signed.
#[derive(Clone, Debug)]
pub(crate) struct Leaf {
    pub(crate) authority: String,
    pub(crate) validity: Validity,
}

/// A server: its log, which survives everything, and what it only knows while it runs.
pub(crate) struct Server {
    life: Duration,
    longest_leaf: Duration,
    held: Vec<Authority>,
    made: u32,
    /// In the log, in one commit with the records.
    pub(crate) bundle: Bundle,
    pub(crate) sequence: u64,
    /// An activation that somebody has commanded; a restart forgets it.
    awaited: Option<String>,
    pub(crate) up: bool,
    /// How far its clock is ahead.
    pub(crate) ahead: i64,
    /// Those that were revoked while something that they signed counted.
    pub(crate) revoked: Vec<String>,
    /// When each authority was published.
    pub(crate) published: BTreeMap<String, i64>,
    /// From when on each may sign.
    pub(crate) activated: BTreeMap<String, i64>,
    pub(crate) activations: u32,
}

impl Server {
    pub(crate) fn new(life: Duration, longest_leaf: Duration) -> Self {
        Self {
            life,
            longest_leaf,
            held: Vec::new(),
            made: 0,
            bundle: Bundle::new(),
            sequence: 0,
            awaited: None,
            up: true,
            ahead: 0,
            revoked: Vec::new(),
            published: BTreeMap::new(),
            activated: BTreeMap::new(),
            activations: 0,
        }
    }

    pub(crate) fn clock(&self, now: i64) -> UnixTime {
        UnixTime::from_secs(now + self.ahead)
    }

    /// When it has to look at its authorities again.
    pub(crate) fn next_wake(&self, now: i64) -> Option<i64> {
        let wake = life::next_wake(&self.held, self.clock(now));
        self.up.then_some((wake.as_secs() - self.ahead).max(now + 1))
    }

    /// Carries out what is due, one order; says whether there was one.
    pub(crate) fn turn(&mut self, now: i64, spread: Spread) -> bool {
        let clock = self.clock(now);
        let due = life::due(
            &self.held,
            self.longest_leaf,
            spread,
            self.awaited.as_deref(),
            clock,
        );
        if let Some(order) = &due {
            self.carry_out(order, now);
        }
        self.up && due.is_some()
    }

    /// What an operator commands.
    pub(crate) fn command(&mut self, command: &Command, now: i64) {
        let clock = self.clock(now);
        let id = match command {
            Command::Revoke(id) => id.as_str(),
            _ => "",
        };
        let published = match self.bundle.get(id) {
            None => Published::Absent,
            Some(false) => Published::Trusted,
            Some(true) => Published::Tainted,
        };
        match decide(
            Kind::X509,
            &self.held,
            published,
            command,
            self.longest_leaf,
            clock,
        ) {
            Ok(Order::Activate(id)) => self.awaited = Some(id),
            Ok(order) => self.carry_out(&order, now),
            Err(_) => {}
        }
    }

    pub(crate) fn restart(&mut self) {
        self.awaited = None;
    }

    pub(crate) fn active(&self) -> Option<&Authority> {
        life::active(&self.held)
    }

    pub(crate) fn prepared(&self) -> Option<&Authority> {
        life::prepared(&self.held)
    }

    pub(crate) fn newest_old(&self) -> Option<&Authority> {
        life::newest_old(&self.held)
    }

    /// Signs as `issue_x509_svid` does.
    pub(crate) fn sign(&self, lifetime: u32, now: i64) -> Option<Leaf> {
        let authority = self.active().filter(|_| self.up)?;
        let clock = self.clock(now);
        let chain = chain(authority);
        if !chain.contains(clock) || chain.not_after <= clock {
            return None;
        }
        let validity = leaf_validity(chain, clock, Lifetime::from_secs(lifetime).unwrap());
        assert!(
            validity.not_before >= chain.not_before && validity.not_after <= chain.not_after,
            "a leaf outlives or predates its chain: {validity:?}, {chain:?}"
        );
        assert!(
            self.bundle.contains_key(&authority.id),
            "{} signs and is in no bundle",
            authority.id
        );
        Some(Leaf {
            authority: authority.id.clone(),
            validity,
        })
    }

    fn carry_out(&mut self, order: &Order, now: i64) {
        let clock = self.clock(now);
        self.held = std::mem::take(&mut self.held)
            .into_iter()
            .filter_map(|authority| {
                let stage = order.leaves(&authority);
                if stage.is_none() {
                    self.bundle.remove(&authority.id);
                }
                Some(Authority {
                    stage: stage?,
                    ..authority
                })
            })
            .collect();
        match order {
            Order::Prepare => {
                self.made += 1;
                let made = Authority {
                    id: self.made.to_string(),
                    issued_at: clock,
                    not_after: clock.saturating_add(self.life),
                    stage: Stage::Prepared,
                    upstream: None,
                };
                self.bundle.insert(made.id.clone(), false);
                self.published.insert(made.id.clone(), now);
                self.held.push(made);
            }
            Order::Activate(id) => {
                self.activated.insert(id.clone(), now);
                self.awaited = None;
                self.activations += 1;
                return;
            }
            Order::Taint(id) => drop(self.bundle.insert(id.clone(), true)),
            Order::Revoke(id) => self.revoked.push(id.clone()),
            Order::Discard(_) | Order::Retire(_) | Order::Prune(_) => {}
        }
        self.sequence += 1;
        assert!(self.held.len() <= 20, "authorities pile up: {:?}", self.held);
    }
}

/// From when to when an authority counts.
fn chain(authority: &Authority) -> Validity {
    Validity {
        not_before: authority.issued_at.saturating_sub(BACKDATE),
        not_after: authority.not_after,
    }
}
