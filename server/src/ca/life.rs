//! The life of an authority: what time and commands make of it. No IO, no clock.
//!
//! An authority is **prepared** (in the bundle, signs nothing), then **active** (signs), then **old** (in the bundle until nothing that it signed can be valid); an old one
//! may be **tainted** (trusted still, but everything that it signed is made again), and then revoked, after which it is nowhere.
//! The thresholds are SPIRE's: the next one is prepared when the active one has half of its life left (at most 30 days) and activated when a sixth is left (at
//! most 7 days). So a new authority stands in every verifier's bundle for a third of its life before anything depends on it. A command may hurry it, but none signs before
//! every connected node holds it, or ten seconds have passed: a node that hangs may not stop all others from being renewed.

use std::time::Duration;

use muster_identity::UnixTime;

mod command;

pub use command::{Command, Published, Refused, decide};

/// How long an authority that may still have been looked at stays in the bundle after its end, at most; never longer than it lived, so that short lives don't pile up.
const PRUNE_AFTER: Duration = Duration::from_secs(24 * 3600);
/// How long connected nodes may take to hold a new bundle. Ten seconds, and one because times are cut to whole seconds.
const PROPAGATION: Duration = Duration::from_secs(11);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// How late an order may be carried out without harm to the plan.
const SLACK: Duration = Duration::from_secs(15);
/// The shortest life that a plan can be made for.
pub const SHORTEST: Duration = Duration::from_secs(60);

/// The longest leaf below authorities of this `life` that no rotation cuts short: what was prepared at half time has two thirds of its life left when it
/// takes over, and they must hold the leaf and the time until everybody knows the authority.
pub fn longest_leaf(life: Duration) -> Duration {
    let left = (life - life / 3).saturating_sub(PROPAGATION + SLACK);
    left.min(life / 2)
}

/// How far an authority has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stage {
    /// Published, signs nothing yet.
    Prepared,
    /// Signs.
    Active,
    /// Signs no more.
    Old,
    /// Signs no more, and what it signed is made again.
    Tainted,
}

/// What the decision needs to know of an authority.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Authority {
    /// Its id.
    pub id: String,
    /// When it was made.
    pub issued_at: UnixTime,
    /// When it ends.
    pub not_after: UnixTime,
    /// How far it has come.
    pub stage: Stage,
    /// The id of the root that an upstream signed it under; none when it stands in the bundle itself.
    pub upstream: Option<String>,
}

/// What is to be done now. One order at a time: its outcome decides what follows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Order {
    /// Make a new authority and publish it, in the place of one that was prepared before.
    Prepare,
    /// Let this one sign, and the active one no more.
    Activate(String),
    /// This prepared one would end too soon, or is not valid at this time: it shall never sign. It has signed nothing, so nobody needs it.
    Discard(String),
    /// This active one can't sign any more: its key is gone. Found by who uses the key, never by time.
    Retire(String),
    /// Mark this old one, so that what it signed is made again.
    Taint(String),
    /// Take this one out of the bundle, whatever it signed, and destroy its key.
    Revoke(String),
    /// Take this one out of the bundle, for nothing that it signed can be valid, and destroy its key.
    Prune(String),
}

impl Order {
    /// What the order makes of an authority that is held; none: it is gone.
    pub fn leaves(&self, authority: &Authority) -> Option<Stage> {
        let is = |id: &String| *id == authority.id;
        match self {
            Self::Prepare if authority.stage == Stage::Prepared => None,
            Self::Discard(id) | Self::Revoke(id) | Self::Prune(id) if is(id) => None,
            Self::Activate(id) if is(id) => Some(Stage::Active),
            Self::Activate(_) if authority.stage == Stage::Active => Some(Stage::Old),
            Self::Retire(id) if is(id) => Some(Stage::Old),
            Self::Taint(id) if is(id) => Some(Stage::Tainted),
            _ => Some(authority.stage),
        }
    }

    /// The authority that it names.
    pub fn about(&self) -> Option<&String> {
        match self {
            Self::Prepare => None,
            Self::Activate(id)
            | Self::Discard(id)
            | Self::Retire(id)
            | Self::Taint(id)
            | Self::Revoke(id)
            | Self::Prune(id) => Some(id),
        }
    }
}

/// Whether the connected nodes hold the newest bundle, with what is prepared in it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Spread {
    /// Each of them says so, or none is connected.
    Everywhere,
    /// Not all of them yet.
    Underway,
}

/// Decides what is due at `now`, if `longest_leaf` is how long something freshly signed has to live, and if somebody has commanded to activate the one that is `awaited`.
pub fn due(
    held: &[Authority],
    longest_leaf: Duration,
    spread: Spread,
    awaited: Option<&str>,
    now: UnixTime,
) -> Option<Order> {
    due_below(held, longest_leaf, spread, awaited, |_| false, now)
}

/// The same, if nothing is to stand any more under roots that are `leaving`: another authority is made at once, and signs when everybody has had the time to hear of its
/// root. Until then the one before does: nobody shall go without.
pub fn due_below(
    held: &[Authority],
    longest_leaf: Duration,
    spread: Spread,
    awaited: Option<&str>,
    leaving: impl Fn(&str) -> bool,
    now: UnixTime,
) -> Option<Order> {
    let is_left = |authority: &Authority| authority.upstream.as_deref().is_some_and(&leaving);
    let active = held
        .iter()
        .find(|authority| authority.stage == Stage::Active && authority.counts_at(now));
    let prepared = prepared(held);
    if let Some(prepared) = prepared
        && (!prepared.may_begin(longest_leaf, now) || (active.is_some() && is_left(prepared)))
    {
        return Some(Order::Discard(prepared.id.clone()));
    }
    match (active, prepared) {
        (None, None) => return Some(Order::Prepare),
        (Some(active), None) if now >= active.prepare_at() || is_left(active) => return Some(Order::Prepare),
        // The nodes that are connected at this moment are not all: after a restart none is.
        (Some(active), Some(prepared)) if is_left(active) && now >= prepared.known_at() => {
            return Some(Order::Activate(prepared.id.clone()));
        }
        // Also when nothing signs now: what a node cannot verify is worse than what it gets a moment later.
        (active, Some(prepared))
            if (awaited == Some(prepared.id.as_str())
                || active.is_none_or(|active| now >= active.activate_at()))
                && (spread == Spread::Everywhere || now >= prepared.known_at()) =>
        {
            return Some(Order::Activate(prepared.id.clone()));
        }
        _ => {}
    }
    let outlived = |authority: &&Authority| authority.is_old() && now >= authority.prune_at();
    held.iter()
        .find(outlived)
        .map(|authority| Order::Prune(authority.id.clone()))
}

/// What is due where nothing of this kind is to sign any more: what signs retires, what is prepared goes, and what is old stays until its end.
pub fn due_disabled(held: &[Authority], now: UnixTime) -> Option<Order> {
    held.iter().find_map(|authority| match authority.stage {
        Stage::Active => Some(Order::Retire(authority.id.clone())),
        Stage::Prepared => Some(Order::Discard(authority.id.clone())),
        Stage::Old | Stage::Tainted => {
            (now >= authority.prune_at()).then(|| Order::Prune(authority.id.clone()))
        }
    })
}

/// When to ask [`due_disabled`] again, if nothing is due.
pub fn next_wake_disabled(held: &[Authority]) -> UnixTime {
    held.iter()
        .map(Authority::prune_at)
        .min()
        .unwrap_or(UnixTime::MAX)
}

/// When to ask [`due`] again, if nothing is due at `now`. Asked earlier, when the last node holds the bundle, it may have an order already.
pub fn next_wake(held: &[Authority], now: UnixTime) -> UnixTime {
    let is_prepared = prepared(held).is_some();
    let wakes = held.iter().flat_map(|authority| match authority.stage {
        Stage::Active if is_prepared => vec![authority.activate_at(), authority.not_after],
        Stage::Active => vec![authority.prepare_at(), authority.not_after],
        Stage::Prepared => vec![authority.known_at()],
        Stage::Old | Stage::Tainted => vec![authority.prune_at()],
    });
    let soonest = now.saturating_add(Duration::from_secs(1));
    wakes
        .filter(|wake| *wake > now)
        .min()
        .unwrap_or(soonest)
        .max(soonest)
}

/// The one that signs.
pub fn active(held: &[Authority]) -> Option<&Authority> {
    held.iter().find(|authority| authority.stage == Stage::Active)
}

/// The one that is to sign next.
pub fn prepared(held: &[Authority]) -> Option<&Authority> {
    held.iter()
        .filter(|authority| authority.stage == Stage::Prepared)
        .max_by_key(|authority| authority.not_after)
}

/// The one that signed last, before the active one.
pub fn newest_old(held: &[Authority]) -> Option<&Authority> {
    held.iter()
        .filter(|authority| authority.is_old())
        .max_by_key(|authority| authority.issued_at)
}

impl Authority {
    fn life(&self) -> Duration {
        self.not_after.since(self.issued_at)
    }

    /// Whether a verifier whose clock says `now` accepts it. A clock that was set back makes an authority count no more.
    fn counts_at(&self, now: UnixTime) -> bool {
        self.issued_at.saturating_sub(muster_pki::x509::BACKDATE) <= now && now < self.not_after
    }

    /// I8: what is activated must outlive the longest leaf and the time until everybody knows it.
    fn may_begin(&self, longest_leaf: Duration, now: UnixTime) -> bool {
        let needed = longest_leaf.saturating_add(PROPAGATION);
        // Below another authority it lives as long as that lets it, and another one would not live longer: what it signs is cut to its end, and the next one is made sooner.
        let needed = match self.upstream {
            None => needed,
            Some(_) => needed.min(self.life() / 2),
        };
        self.counts_at(now) && self.not_after >= now.saturating_add(needed)
    }

    /// Whether it signs no more.
    fn is_old(&self) -> bool {
        matches!(self.stage, Stage::Old | Stage::Tainted)
    }

    fn prepare_at(&self) -> UnixTime {
        self.not_after.saturating_sub((self.life() / 2).min(30 * DAY))
    }

    fn activate_at(&self) -> UnixTime {
        self.not_after.saturating_sub((self.life() / 6).min(7 * DAY))
    }

    fn prune_at(&self) -> UnixTime {
        self.not_after.saturating_add(self.life().min(PRUNE_AFTER))
    }

    /// When it is no longer waited for that connected nodes hold it.
    fn known_at(&self) -> UnixTime {
        self.issued_at.saturating_add(PROPAGATION)
    }
}

#[cfg(test)]
mod tests;
