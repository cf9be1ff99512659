//! When an authority is made, when it begins to sign, and when it is forgotten. No IO, no clock.
//!
//! An authority is **prepared** (in the bundle, signs nothing), then **active** (signs), then **old** (in the bundle until nothing that it signed can be valid).
//! The thresholds are SPIRE's: the next one is prepared when the active one has half of its life left (at most 30 days) and activated when a sixth is left (at
//! most 7 days). So a new authority stands in every verifier's bundle for a third of its life before anything depends on it, and none signs before
//! every connected node holds it, or ten seconds have passed: a node that hangs may not stop all others from being renewed.

use std::time::Duration;

use muster_identity::UnixTime;

/// How long an authority that may still have been looked at stays in the bundle after its end.
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
}

/// What is to be done now. One order at a time: its outcome decides what follows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Order {
    /// Make a new authority and publish it.
    Prepare,
    /// Let this one sign, and the active one no more.
    Activate(String),
    /// This prepared one would end too soon, or is not valid at this time: it shall never sign.
    Retire(String),
    /// Take this one out of the bundle and destroy its key.
    Prune(String),
}

/// Whether the connected nodes hold the newest bundle, with what is prepared in it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Spread {
    /// Each of them says so, or none is connected.
    Everywhere,
    /// Not all of them yet.
    Underway,
}

/// Decides what is due at `now`, if `longest_leaf` is how long something freshly signed has to live.
pub fn due(held: &[Authority], longest_leaf: Duration, spread: Spread, now: UnixTime) -> Option<Order> {
    let prepared = held
        .iter()
        .filter(|authority| authority.stage == Stage::Prepared)
        .max_by_key(|a| a.not_after);
    if let Some(prepared) = prepared {
        // I8: what is activated must outlive the longest leaf and the time until everybody knows it.
        let needed = longest_leaf.saturating_add(PROPAGATION);
        if !prepared.counts_at(now) || prepared.not_after < now.saturating_add(needed) {
            return Some(Order::Retire(prepared.id.clone()));
        }
    }
    let active = held
        .iter()
        .find(|authority| authority.stage == Stage::Active && authority.counts_at(now));
    match (active, prepared) {
        (None, None) => return Some(Order::Prepare),
        (Some(active), None) if now >= active.prepare_at() => return Some(Order::Prepare),
        // Also when nothing signs now: what a node cannot verify is worse than what it gets a moment later.
        (active, Some(prepared))
            if active.is_none_or(|active| now >= active.activate_at())
                && (spread == Spread::Everywhere || now >= prepared.known_at()) =>
        {
            return Some(Order::Activate(prepared.id.clone()));
        }
        _ => {}
    }
    let outlived = |authority: &&Authority| authority.stage == Stage::Old && now >= authority.prune_at();
    held.iter()
        .find(outlived)
        .map(|authority| Order::Prune(authority.id.clone()))
}

/// When to ask [`due`] again, if nothing is due at `now`. Asked earlier, when the last node holds the bundle, it may have an order already.
pub fn next_wake(held: &[Authority], now: UnixTime) -> UnixTime {
    let is_prepared = held.iter().any(|authority| authority.stage == Stage::Prepared);
    let wakes = held.iter().flat_map(|authority| match authority.stage {
        Stage::Active if is_prepared => vec![authority.activate_at(), authority.not_after],
        Stage::Active => vec![authority.prepare_at(), authority.not_after],
        Stage::Prepared => vec![authority.known_at()],
        Stage::Old => vec![authority.prune_at()],
    });
    let soonest = now.saturating_add(Duration::from_secs(1));
    wakes
        .filter(|wake| *wake > now)
        .min()
        .unwrap_or(soonest)
        .max(soonest)
}

impl Authority {
    fn life(&self) -> Duration {
        self.not_after.since(self.issued_at)
    }

    /// Whether a verifier whose clock says `now` accepts it. A clock that was set back makes an authority count no more.
    fn counts_at(&self, now: UnixTime) -> bool {
        self.issued_at.saturating_sub(muster_pki::x509::BACKDATE) <= now && now < self.not_after
    }

    fn prepare_at(&self) -> UnixTime {
        self.not_after.saturating_sub((self.life() / 2).min(30 * DAY))
    }

    fn activate_at(&self) -> UnixTime {
        self.not_after.saturating_sub((self.life() / 6).min(7 * DAY))
    }

    fn prune_at(&self) -> UnixTime {
        self.not_after.saturating_add(PRUNE_AFTER)
    }

    /// When it is no longer waited for that connected nodes hold it.
    fn known_at(&self) -> UnixTime {
        self.issued_at.saturating_add(PROPAGATION)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const HOUR: u64 = 3600;

    /// Runs the machine from `start`, executing each order at once, and hands every state to `check` before each step.
    fn live(
        life: Duration,
        leaf: Duration,
        spread: Spread,
        until: i64,
        mut check: impl FnMut(&[Authority], UnixTime),
    ) -> Vec<(i64, Order)> {
        let (mut held, mut orders, mut made) = (Vec::<Authority>::new(), Vec::new(), 0);
        let mut now = UnixTime::from_secs(0);
        while now.as_secs() < until {
            while let Some(order) = due(&held, leaf, spread, now) {
                orders.push((now.as_secs(), order.clone()));
                match order {
                    Order::Prepare => {
                        made += 1;
                        let not_after = now.saturating_add(life);
                        held.push(Authority {
                            id: made.to_string(),
                            issued_at: now,
                            not_after,
                            stage: Stage::Prepared,
                        });
                    }
                    Order::Activate(id) => {
                        for authority in &mut held {
                            authority.stage = match authority.stage {
                                _ if authority.id == id => Stage::Active,
                                Stage::Active => Stage::Old,
                                other => other,
                            };
                        }
                    }
                    Order::Retire(id) => held
                        .iter_mut()
                        .filter(|a| a.id == id)
                        .for_each(|a| a.stage = Stage::Old),
                    Order::Prune(id) => held.retain(|authority| authority.id != id),
                }
                assert!(orders.len() < 10_000, "the machine turns in place");
            }
            check(&held, now);
            now = next_wake(&held, now);
        }
        orders
    }

    #[test]
    fn a_day_goes_by_spires_thresholds() {
        let orders = live(
            Duration::from_secs(24 * HOUR),
            Duration::from_secs(4 * HOUR),
            Spread::Everywhere,
            50 * HOUR as i64,
            |_, _| {},
        );
        let hours: Vec<_> = orders
            .iter()
            .map(|(at, order)| (at / HOUR as i64, order.clone()))
            .collect();
        let id = |id: &str| id.to_owned();
        assert_eq!(
            hours,
            [
                (0, Order::Prepare),
                (0, Order::Activate(id("1"))),
                (12, Order::Prepare),
                (20, Order::Activate(id("2"))),
                (24, Order::Prepare),
                (32, Order::Activate(id("3"))),
                (36, Order::Prepare),
                (44, Order::Activate(id("4"))),
                (48, Order::Prepare),
                (48, Order::Prune(id("1"))),
            ]
        );
    }

    #[test]
    fn a_server_that_slept_past_the_end_makes_a_new_authority_at_once() {
        let old = Authority {
            id: "1".into(),
            issued_at: UnixTime::from_secs(0),
            not_after: UnixTime::from_secs(100),
            stage: Stage::Active,
        };
        assert_eq!(
            due(
                std::slice::from_ref(&old),
                Duration::from_secs(10),
                Spread::Underway,
                UnixTime::from_secs(100)
            ),
            Some(Order::Prepare)
        );
        assert_eq!(
            due(
                &[old],
                Duration::from_secs(10),
                Spread::Everywhere,
                UnixTime::from_secs(10)
            ),
            None
        );
    }

    #[test]
    fn a_prepared_authority_that_would_end_before_its_leaves_is_never_activated() {
        let held = |stage, not_after| Authority {
            id: format!("{stage:?}"),
            issued_at: UnixTime::from_secs(0),
            not_after: UnixTime::from_secs(not_after),
            stage,
        };
        let held = [held(Stage::Active, 1000), held(Stage::Prepared, 1010)];
        let order = due(
            &held,
            Duration::from_secs(100),
            Spread::Everywhere,
            UnixTime::from_secs(950),
        );
        assert_eq!(order, Some(Order::Retire("Prepared".into())));
    }

    #[test]
    fn a_clock_set_back_gets_an_authority_that_counts_now() {
        let ahead = Authority {
            id: "1".into(),
            issued_at: UnixTime::from_secs(100_000),
            not_after: UnixTime::from_secs(200_000),
            stage: Stage::Active,
        };
        assert_eq!(
            due(
                &[ahead],
                Duration::from_secs(10),
                Spread::Everywhere,
                UnixTime::from_secs(5_000)
            ),
            Some(Order::Prepare)
        );
    }

    #[test]
    fn nothing_signs_before_every_node_holds_it_or_ten_seconds_have_passed() {
        let held = |id: &str, stage, issued_at, not_after| Authority {
            id: id.into(),
            issued_at: UnixTime::from_secs(issued_at),
            not_after: UnixTime::from_secs(not_after),
            stage,
        };
        // Active until 900 of 1000; another prepared late. And with nothing that signs: no reason to hurry either.
        let late = [
            held("1", Stage::Active, 0, 1000),
            held("2", Stage::Prepared, 880, 1880),
        ];
        let alone = [
            held("1", Stage::Old, 0, 880),
            held("2", Stage::Prepared, 880, 1880),
        ];
        for held in [late, alone] {
            let due = |spread, at| due(&held, Duration::from_secs(100), spread, UnixTime::from_secs(at));
            let activate = Some(Order::Activate("2".into()));
            assert_eq!(due(Spread::Underway, 890), None);
            assert_eq!(
                next_wake(&held, UnixTime::from_secs(885)),
                UnixTime::from_secs(891)
            );
            assert_eq!(due(Spread::Underway, 891), activate);
            assert_eq!(due(Spread::Everywhere, 881), activate);
        }
    }

    proptest! {
        #[test]
        fn at_every_wake_an_authority_signs_that_outlives_the_longest_leaf_allowed(
            life in SHORTEST.as_secs()..10_000_000,
            part in 2_u32..100,
            slow in proptest::bool::ANY,
        ) {
            let life = Duration::from_secs(life);
            let leaf = longest_leaf(life).min(life / part);
            let until = i64::try_from(life.as_secs()).unwrap() * 8;
            let spread = if slow { Spread::Underway } else { Spread::Everywhere };
            let mut activated = BTreeMap::new();
            let mut began = None;
            live(life, leaf, spread, until, |held, now| {
                let active: Vec<_> = held.iter().filter(|a| a.stage == Stage::Active).collect();
                let Some(first) = active.first() else {
                    // Only the very first may be waited for.
                    assert!(spread == Spread::Underway && now.as_secs() <= 11 && began.is_none());
                    return;
                };
                began = Some(now);
                assert_eq!(active.len(), 1);
                assert!(first.counts_at(now));
                let since = *activated.entry(first.id.clone()).or_insert(now);
                assert!(first.not_after >= since.saturating_add(leaf).saturating_add(PROPAGATION));
                assert!(held.len() < 5 + usize::try_from(PRUNE_AFTER.as_secs() * 3 / life.as_secs()).unwrap());
            });
        }
    }
}
