//! The schedule of renewals.

use std::collections::{BTreeMap, BTreeSet};

use muster_identity::UnixTime;

use super::Jitter;

/// The first wait after a failure, in seconds; it doubles with each further one.
const FIRST_WAIT: i64 = 1;
/// The longest wait after failures that may heal by themselves, in seconds.
const LONGEST_WAIT: i64 = 60;
/// The first and the longest wait after a refusal: asking again soon rarely helps, and the server pays for it.
const FIRST_WAIT_REFUSED: i64 = 5;
const LONGEST_WAIT_REFUSED: i64 = 300;
/// How far renewals are spread when something happened to all of them at once (the server is back, the clock was set).
const SPREAD: i64 = 5;
/// How far apart nodes begin to make again what an authority has signed that is trusted no more.
const START_SPREAD: i64 = 2;

/// How long the first makeshift stays: what was under way during a taint is replaced by then.
const FIRST_STAY: i64 = 30;
/// The longest that one stays. Whoever signs has nothing better, and asking does not make it; each answer costs a signature.
const LONGEST_STAY: i64 = 900;

/// From when to when a credential counts, by this machine's clock.
///
/// The beginning is the moment it was received and not its notBefore: issuers set that back, and against a skewed clock it would make fresh
/// credentials look old and be renewed over and over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Validity {
    /// When it was received.
    pub received: UnixTime,
    /// When it ends.
    pub ends: UnixTime,
}

/// How a renewal went.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// There is a new credential.
    Issued(Validity),
    /// The server was not reached or could not answer.
    Unreachable,
    /// The server answered no.
    Refused,
}

/// Whether a credential that came is one to live with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Worth {
    /// Until its time has come.
    Good,
    /// It counts, but whoever issued it has had to do without something better: its authority is tainted.
    Makeshift,
}

/// When each of many credentials is to be renewed. `K` names a credential.
#[derive(Debug)]
pub struct Renewals<K> {
    plans: BTreeMap<K, Plan>,
    /// Of each plan that waits: when its wait is over.
    wakes: BTreeSet<(UnixTime, K)>,
    jitter: Jitter,
}

#[derive(Clone, Copy, Debug)]
struct Plan {
    step: Step,
    held: Option<Validity>,
    failures: u32,
    /// How many makeshifts came in a row.
    makeshifts: u32,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Step {
    /// Nothing to do until then.
    Waiting(UnixTime),
    /// Handed out by [`Renewals::due`], and no outcome yet.
    Running,
    /// As `Running`, but what is being made is already known to be out of date.
    RunningForNothing,
}

impl<K: Clone + Ord> Renewals<K> {
    /// Nothing planned yet.
    pub fn new(jitter: Jitter) -> Self {
        Self {
            plans: BTreeMap::new(),
            wakes: BTreeSet::new(),
            jitter,
        }
    }

    /// `key` is needed now: there is none, or the one that is held is out of date. A renewal that runs is not trusted to bring it.
    pub fn want(&mut self, key: K, now: UnixTime) {
        let step = match self.plans.get(&key).map(|plan| plan.step) {
            Some(Step::Running | Step::RunningForNothing) => Step::RunningForNothing,
            Some(Step::Waiting(_)) | None => Step::Waiting(now),
        };
        self.step(key, step, |_| {});
    }

    /// As [`Renewals::want`], unless `key` is already planned: a failure keeps its wait and a running renewal is waited for.
    pub fn need(&mut self, key: K, now: UnixTime) {
        if !self.plans.contains_key(&key) {
            self.want(key, now);
        }
    }

    /// These are out of date though they count: each is made again soon, `a_second` of them in a second, in an order of its own on each node, so that neither this node nor
    /// all together make a storm.
    pub fn make_again(&mut self, mut keys: Vec<K>, a_second: usize, now: UnixTime) {
        for last in (1..keys.len()).rev() {
            let drawn = self.jitter.between(0, i64::try_from(last).unwrap_or(i64::MAX));
            keys.swap(last, usize::try_from(drawn).unwrap_or(last));
        }
        let start = self.jitter.between(0, START_SPREAD);
        for (place, key) in keys.into_iter().enumerate() {
            let slot = i64::try_from(place / a_second.max(1)).unwrap_or(i64::MAX);
            let at = later(now, start.saturating_add(slot));
            match self.plans.get(&key).map(|plan| plan.step) {
                Some(Step::Running) => self.step(key, Step::RunningForNothing, |_| {}),
                Some(Step::Waiting(_)) => self.by(&key, at),
                Some(Step::RunningForNothing) | None => {}
            }
        }
    }

    /// `key` is renewed then at the latest, if it is planned.
    pub fn by(&mut self, key: &K, at: UnixTime) {
        if let Some(Step::Waiting(planned)) = self.plans.get(key).map(|plan| plan.step)
            && planned > at
        {
            self.step(key.clone(), Step::Waiting(at), |_| {});
        }
    }

    /// What `key` holds since now is worth so much. A makeshift is asked for again soon, and each in a row twice as late as the one before.
    pub fn judge(&mut self, key: &K, worth: Worth, now: UnixTime) {
        let Some(plan) = self.plans.get_mut(key) else {
            return;
        };
        match worth {
            Worth::Good => plan.makeshifts = 0,
            Worth::Makeshift => {
                let stay = FIRST_STAY
                    .saturating_mul(1 << plan.makeshifts.min(16))
                    .min(LONGEST_STAY);
                plan.makeshifts = plan.makeshifts.saturating_add(1);
                self.by(key, later(now, stay));
            }
        }
    }

    /// There may soon be something better for those of `keys` that hold makeshifts: they are asked for again after the first stay, as by [`Renewals::make_again`].
    pub fn hope(&mut self, mut keys: Vec<K>, a_second: usize, now: UnixTime) {
        keys.retain(|key| self.plans.get(key).is_some_and(|plan| plan.makeshifts > 0));
        for key in &keys {
            if let Some(plan) = self.plans.get_mut(key) {
                plan.makeshifts = 0;
            }
        }
        self.make_again(keys, a_second, later(now, FIRST_STAY));
    }

    /// `key` is held, for instance since before a restart; it is renewed in time.
    pub fn held(&mut self, key: K, validity: Validity, now: UnixTime) {
        let at = self.half_life(validity, now);
        self.step(key, Step::Waiting(at), |plan| {
            plan.held = Some(validity);
            plan.failures = 0;
        });
    }

    /// Nobody needs `key` any more. An outcome that still comes is ignored.
    pub fn forget(&mut self, key: &K) {
        if let Some(plan) = self.plans.remove(key)
            && let Step::Waiting(at) = plan.step
        {
            self.wakes.remove(&(at, key.clone()));
        }
    }

    /// Whether [`Renewals::forget`] has nothing to do for `key`.
    pub fn knows(&self, key: &K) -> bool {
        self.plans.contains_key(key)
    }

    /// When [`Renewals::due`] will have something next.
    pub fn next_wake(&self) -> Option<UnixTime> {
        self.wakes.first().map(|(at, _)| *at)
    }

    /// At most `limit` keys whose time has come, those that end first before the others. Each needs a [`Renewals::finished`].
    pub fn due(&mut self, now: UnixTime, limit: usize) -> Vec<K> {
        let ripe = self
            .wakes
            .iter()
            .take_while(|(at, _)| *at <= now)
            .map(|(_, key)| key);
        let mut ripe: Vec<K> = ripe.cloned().collect();
        // What has no credential at all comes first: somebody waits for it.
        ripe.sort_by_key(|key| {
            self.plans
                .get(key)
                .and_then(|plan| plan.held)
                .map(|held| held.ends)
        });
        ripe.truncate(limit);
        for key in &ripe {
            self.step(key.clone(), Step::Running, |_| {});
        }
        ripe
    }

    /// What became of a renewal that [`Renewals::due`] handed out.
    pub fn finished(&mut self, key: &K, outcome: Outcome, now: UnixTime) {
        let Some(plan) = self.plans.get(key).copied() else {
            return;
        };
        if let Step::Waiting(_) = plan.step {
            return;
        }
        let outcome = match outcome {
            // By this machine's clock it ended before it came: nobody here would accept it, and asking at once again would bring the same.
            Outcome::Issued(validity) if validity.ends <= now => Outcome::Unreachable,
            outcome => outcome,
        };
        match outcome {
            Outcome::Issued(validity) => {
                self.held(key.clone(), validity, now);
                if plan.step == Step::RunningForNothing {
                    self.want(key.clone(), now);
                }
            }
            Outcome::Unreachable => self.failed(key, plan, (FIRST_WAIT, LONGEST_WAIT), now),
            Outcome::Refused => self.failed(key, plan, (FIRST_WAIT_REFUSED, LONGEST_WAIT_REFUSED), now),
        }
    }

    /// A renewal that [`Renewals::due`] handed out was not even asked for: it is due again, and nothing has failed.
    pub fn put_back(&mut self, key: &K, now: UnixTime) {
        if let Some(Step::Running | Step::RunningForNothing) = self.plans.get(key).map(|plan| plan.step) {
            self.step(key.clone(), Step::Waiting(now), |_| {});
        }
    }

    /// The server can be reached again: what failed is tried again now, a little spread.
    pub fn hurry(&mut self, now: UnixTime) {
        self.bring_forward(now, |plan| plan.failures > 0);
    }

    /// The clock was set or the machine slept: plans made by the old clock are worth nothing, so everything is renewed once.
    pub fn clock_was_set(&mut self, now: UnixTime) {
        self.bring_forward(now, |_| true);
    }

    /// How many credentials ought to have been renewed but were not, and the first end among them.
    pub fn overdue(&self) -> (usize, Option<UnixTime>) {
        let failing = self.plans.values().filter(|plan| plan.failures > 0);
        let ends = failing
            .clone()
            .filter_map(|plan| plan.held)
            .map(|held| held.ends)
            .min();
        (failing.count(), ends)
    }

    fn failed(&mut self, key: &K, plan: Plan, (first, longest): (i64, i64), now: UnixTime) {
        let mut wait = first.saturating_mul(1 << plan.failures.min(16)).min(longest);
        if let Some(left) = plan
            .held
            .map(|held| seconds(held.ends, now))
            .filter(|left| *left > 0)
        {
            // A credential that is about to end is fought for: at least four tries in what is left.
            wait = wait.min((left / 4).max(FIRST_WAIT));
        }
        let at = later(
            now,
            self.jitter.between(wait - wait / 10, wait + wait / 10).max(1),
        );
        let at = if plan.step == Step::RunningForNothing {
            at.min(later(now, FIRST_WAIT))
        } else {
            at
        };
        self.step(key.clone(), Step::Waiting(at), |plan| {
            plan.failures = plan.failures.saturating_add(1);
        });
    }

    fn bring_forward(&mut self, now: UnixTime, which: impl Fn(&Plan) -> bool) {
        let keys = self
            .plans
            .iter()
            .filter(|(_, plan)| which(plan))
            .map(|(key, plan)| (key.clone(), plan.held));
        let keys: Vec<(K, Option<Validity>)> = keys.collect();
        for (key, held) in keys {
            // Where nothing is held somebody may be waiting.
            let soon = if held.is_some() {
                later(now, self.jitter.between(0, SPREAD))
            } else {
                now
            };
            if let Some(Step::Waiting(at)) = self.plans.get(&key).map(|plan| plan.step)
                && at > soon
            {
                self.step(key, Step::Waiting(soon), |_| {});
            }
        }
    }

    /// Half of the life that was left at receipt, give or take a tenth.
    fn half_life(&mut self, validity: Validity, now: UnixTime) -> UnixTime {
        let life = seconds(validity.ends, validity.received).max(0);
        let wait = self
            .jitter
            .between(life.saturating_mul(45) / 100, life.saturating_mul(55) / 100)
            .max(1);
        // Never before now: what is due since yesterday is due now and not first of all.
        later(validity.received, wait).max(now)
    }

    fn step(&mut self, key: K, step: Step, and: impl FnOnce(&mut Plan)) {
        let plan = self.plans.entry(key.clone()).or_insert(Plan {
            step,
            held: None,
            failures: 0,
            makeshifts: 0,
        });
        if let Step::Waiting(at) = plan.step {
            self.wakes.remove(&(at, key.clone()));
        }
        plan.step = step;
        and(plan);
        if let Step::Waiting(at) = step {
            self.wakes.insert((at, key));
        }
    }
}

fn later(time: UnixTime, by: i64) -> UnixTime {
    UnixTime::from_secs(time.as_secs().saturating_add(by))
}

fn seconds(until: UnixTime, from: UnixTime) -> i64 {
    until.as_secs().saturating_sub(from.as_secs())
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
