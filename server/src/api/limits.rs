//! Rate limits: a token bucket per kind of call and caller. A call waits for its tokens; only one that could never get them is refused.
//!
//! A node counts by its identity, wherever it calls from: thousands of them may stand behind one address, and one of them may have many. Who has none counts by address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::Duration;

use muster_identity::SpiffeId;
use tokio::time::Instant;
use tonic::Code;

use super::{Caller, Refusal, Role};
use crate::admission::network;

/// What is limited.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Limited {
    /// Attesting a node: 1 a second.
    Attest,
    /// Certificates, by the number asked for: 500 a second.
    Csr,
    /// Tokens: 500 a second.
    Jwt,
    /// Token-signing keys of downstream servers: 500 a second.
    PushKey,
    /// Status posts: 10 a second.
    PostStatus,
    /// Changes by grants, by the number of items: 500 a second. Done or refused, each costs a durable record.
    Change,
    /// Calls that end in a refusal of access: 20 a second. Each costs a durable record.
    Refusal,
}

/// Which limits apply.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LimitSettings {
    /// Whether attestation is limited.
    pub attestation: bool,
    /// Whether signing is limited.
    pub signing: bool,
}

/// The buckets of all callers.
#[derive(Debug)]
pub struct Limits {
    settings: RwLock<LimitSettings>,
    buckets: Mutex<HashMap<(Limited, Who), Bucket>>,
}

/// Whose bucket it is.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Who {
    /// A node, a downstream server, or the holder of a grant.
    Identity(SpiffeId),
    /// Whoever calls from there.
    Address(IpAddr),
}

/// Tokens may be owed: who comes later waits longer.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

/// How many buckets are kept before those that are full again are dropped.
const MANY: usize = 10_000;
/// The longest that a call waits. Past it the queue of that address is full.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

impl Limited {
    /// Tokens a second, and the most that are saved up.
    fn rate(self) -> u32 {
        match self {
            Self::Attest => 1,
            Self::Csr | Self::Jwt | Self::Change | Self::PushKey => 500,
            Self::PostStatus => 10,
            Self::Refusal => 20,
        }
    }
}

impl Limits {
    /// No calls so far.
    pub fn new(settings: LimitSettings) -> Self {
        Self {
            settings: RwLock::new(settings),
            buckets: Mutex::default(),
        }
    }

    /// From now on these limits apply. What callers owe is kept.
    pub fn set(&self, settings: LimitSettings) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = settings;
    }

    fn settings(&self) -> LimitSettings {
        *self.settings.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `caller` may do `cost` of `what`. Callers on the admin socket are not limited.
    pub async fn wait(&self, what: Limited, caller: &Caller, cost: usize) -> Result<(), Refusal> {
        match Who::is(caller) {
            Some(who) => self.wait_for(what, who, cost).await,
            None => Ok(()),
        }
    }

    pub(crate) async fn wait_for(&self, what: Limited, who: Who, cost: usize) -> Result<(), Refusal> {
        let applies = match what {
            Limited::Attest => self.settings().attestation,
            Limited::Csr | Limited::Jwt => self.settings().signing,
            Limited::PushKey | Limited::PostStatus | Limited::Change | Limited::Refusal => true,
        };
        let burst = what.rate();
        let cost = u32::try_from(cost).unwrap_or(u32::MAX);
        if !applies || cost == 0 {
            return Ok(());
        }
        if cost > burst {
            return Err(Refusal::new(
                Code::ResourceExhausted,
                format!("rate ({cost}) exceeds burst size ({burst})"),
            ));
        }
        match self.take(what, who, cost, Instant::now()) {
            Some(wait) => {
                if !wait.is_zero() {
                    tokio::time::sleep(wait).await;
                }
                Ok(())
            }
            None => Err(Refusal::new(
                Code::ResourceExhausted,
                "too many calls of this caller, or from its address, are waiting",
            )),
        }
    }

    /// Takes the tokens and says how long to wait for them; none when the wait would be too long.
    fn take(&self, what: Limited, who: Who, cost: u32, now: Instant) -> Option<Duration> {
        let rate = f64::from(what.rate());
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MANY {
            buckets.retain(|(what, _), bucket| {
                bucket.tokens_at(f64::from(what.rate()), now) < f64::from(what.rate())
            });
        }
        let bucket = buckets.entry((what, who)).or_insert(Bucket {
            tokens: rate,
            at: now,
        });
        let tokens = bucket.tokens_at(rate, now) - f64::from(cost);
        let wait = Duration::from_secs_f64((-tokens / rate).max(0.0));
        if wait > LONGEST_WAIT {
            return None;
        }
        *bucket = Bucket { tokens, at: now };
        Some(wait)
    }
}

impl Who {
    /// By what the caller counts; none for local callers, who are not limited.
    fn is(caller: &Caller) -> Option<Self> {
        match (caller.role(), caller.spiffe_id()) {
            (Role::Agent | Role::Downstream | Role::Granted, Some(id)) => Some(Self::Identity(id.clone())),
            _ => caller.ip().map(Self::at),
        }
    }

    /// Whoever calls from an address.
    pub(crate) fn at(ip: IpAddr) -> Self {
        Self::Address(network(ip))
    }
}

impl Bucket {
    fn tokens_at(&self, rate: f64, now: Instant) -> f64 {
        (self.tokens + rate * now.saturating_duration_since(self.at).as_secs_f64()).min(rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: LimitSettings = LimitSettings {
        attestation: true,
        signing: true,
    };

    fn at(ip: [u8; 4]) -> Who {
        Who::at(ip.into())
    }

    #[tokio::test]
    async fn nodes_behind_one_address_do_not_wait_for_each_other() {
        let limits = Limits::new(BOTH);
        let node = |name: &str| {
            let id = format!("spiffe://example.org/spire/agent/join_token/{name}");
            Who::Identity(id.parse().unwrap())
        };
        let now = Instant::now();
        for name in ["a", "b"] {
            assert_eq!(
                limits.take(Limited::Csr, node(name), 500, now),
                Some(Duration::ZERO)
            );
        }
        let again = limits.take(Limited::Csr, node("a"), 1, now);
        assert!(again.unwrap() > Duration::ZERO);
    }

    #[tokio::test]
    async fn tokens_run_out_are_waited_for_and_come_back() {
        let limits = Limits::new(BOTH);
        let (who, other) = (|| at([10, 0, 0, 1]), at([10, 0, 0, 2]));
        let now = Instant::now();
        assert_eq!(limits.take(Limited::Csr, who(), 500, now), Some(Duration::ZERO));
        assert_eq!(
            limits.take(Limited::Csr, who(), 250, now),
            Some(Duration::from_millis(500))
        );
        assert_eq!(limits.take(Limited::Csr, other, 500, now), Some(Duration::ZERO));
        let later = now + Duration::from_secs(2);
        assert_eq!(limits.take(Limited::Csr, who(), 500, later), Some(Duration::ZERO));
    }

    #[tokio::test]
    async fn a_queue_that_grows_too_long_is_refused_and_owes_nothing() {
        let limits = Limits::new(BOTH);
        let now = Instant::now();
        let waits: Vec<_> = (0..20)
            .map(|_| limits.take(Limited::Attest, at([10, 0, 0, 1]), 1, now))
            .collect();
        assert_eq!(waits.iter().flatten().count(), 11);
        assert_eq!(waits[10], Some(LONGEST_WAIT));
    }

    #[tokio::test]
    async fn more_than_the_burst_is_refused_at_once() {
        let limits = Limits::new(BOTH);
        let refusal = limits
            .wait_for(Limited::Csr, at([10, 0, 0, 1]), 501)
            .await
            .unwrap_err();
        assert_eq!(refusal.message(), "rate (501) exceeds burst size (500)");
        let off = Limits::new(LimitSettings {
            signing: false,
            ..BOTH
        });
        off.wait_for(Limited::Csr, at([10, 0, 0, 1]), 501).await.unwrap();
    }
}
