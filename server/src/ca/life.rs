//! When an authority is made, when it begins to sign, and when it is forgotten. No IO, no clock.
//!
//! An authority is **prepared** (in the bundle, signs nothing), then **active** (signs), then **old** (in the bundle until nothing that it signed can be valid).
//! The thresholds are SPIRE's: the next one is prepared when the active one has half of its life left (at most 30 days) and activated when a sixth is left (at
//! most 7 days). So a new authority stands in every verifier's bundle for a third of its life before anything depends on it.

use std::time::Duration;

use muster_identity::UnixTime;

/// How long an authority that may still have been looked at stays in the bundle after its end.
const PRUNE_AFTER: Duration = Duration::from_secs(24 * 3600);
/// How long connected nodes may take to hold a new bundle.
const PROPAGATION: Duration = Duration::from_secs(10);
const DAY: Duration = Duration::from_secs(24 * 3600);

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

/// Decides what is due at `now`, if `longest_leaf` is how long something freshly signed has to live.
pub fn due(held: &[Authority], longest_leaf: Duration, now: UnixTime) -> Option<Order> {
    let prepared = held
        .iter()
        .filter(|authority| authority.stage == Stage::Prepared)
        .max_by_key(|a| a.not_after);
    if let Some(prepared) = prepared {
        // I8: what is activated must outlive the longest leaf and the time until everybody knows it.
        let needed = longest_leaf.saturating_add(prepared.propagation());
        if !prepared.counts_at(now) || prepared.not_after < now.saturating_add(needed) {
            return Some(Order::Retire(prepared.id.clone()));
        }
    }
    let active = held
        .iter()
        .find(|authority| authority.stage == Stage::Active && authority.counts_at(now));
    match (active, prepared) {
        // Nothing can sign, so nothing is gained by waiting for the propagation.
        (None, Some(prepared)) => return Some(Order::Activate(prepared.id.clone())),
        (None, None) => return Some(Order::Prepare),
        (Some(active), None) if now >= active.prepare_at() => return Some(Order::Prepare),
        (Some(active), Some(prepared)) if now >= prepared.known_at().max(active.activate_at()) => {
            return Some(Order::Activate(prepared.id.clone()));
        }
        _ => {}
    }
    let outlived = |authority: &&Authority| authority.stage == Stage::Old && now >= authority.prune_at();
    held.iter()
        .find(outlived)
        .map(|authority| Order::Prune(authority.id.clone()))
}

/// When to ask [`due`] again, if nothing is due at `now`.
pub fn next_wake(held: &[Authority], now: UnixTime) -> UnixTime {
    let prepared = held.iter().find(|authority| authority.stage == Stage::Prepared);
    let wakes = held
        .iter()
        .flat_map(|authority| match (authority.stage, prepared) {
            (Stage::Active, None) => vec![authority.prepare_at(), authority.not_after],
            (Stage::Active, Some(next)) => {
                vec![authority.activate_at().max(next.known_at()), authority.not_after]
            }
            (Stage::Prepared, _) => Vec::new(),
            (Stage::Old, _) => vec![authority.prune_at()],
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

    /// A short-lived authority (in a trial) may not spend its life on being waited for.
    fn propagation(&self) -> Duration {
        PROPAGATION.min(self.life() / 12)
    }

    fn known_at(&self) -> UnixTime {
        self.issued_at.saturating_add(self.propagation())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: u64 = 3600;

    /// Runs the machine from `start`, executing each order at once, and hands every state to `check` before each step.
    fn live(
        life: Duration,
        leaf: Duration,
        until: i64,
        mut check: impl FnMut(&[Authority], UnixTime),
    ) -> Vec<(i64, Order)> {
        let (mut held, mut orders, mut made) = (Vec::<Authority>::new(), Vec::new(), 0);
        let mut now = UnixTime::from_secs(0);
        while now.as_secs() < until {
            while let Some(order) = due(&held, leaf, now) {
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
                UnixTime::from_secs(100)
            ),
            Some(Order::Prepare)
        );
        assert_eq!(
            due(&[old], Duration::from_secs(10), UnixTime::from_secs(10)),
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
        let order = due(&held, Duration::from_secs(100), UnixTime::from_secs(950));
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
            due(&[ahead], Duration::from_secs(10), UnixTime::from_secs(5_000)),
            Some(Order::Prepare)
        );
    }

    proptest! {
        #[test]
        fn at_every_wake_an_authority_signs_that_outlives_the_longest_leaf_allowed(life in 30_u64..10_000_000, part in 6_u64..100) {
            let (life, leaf) = (Duration::from_secs(life), Duration::from_secs(life / part));
            let until = i64::try_from(life.as_secs()).unwrap() * 8;
            live(life, leaf, until, |held, now| {
                let active: Vec<_> = held.iter().filter(|a| a.stage == Stage::Active).collect();
                assert_eq!(active.len(), 1);
                assert!(active[0].counts_at(now));
                assert!(held.len() < 5 + usize::try_from(PRUNE_AFTER.as_secs() * 3 / life.as_secs()).unwrap());
            });
        }
    }
}
