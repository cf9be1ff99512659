//! How the rest of the daemon speaks to the cache.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use muster_identity::{EntryId, Facts, Hint, Selector, SpiffeId, TrustDomain, UnixTime};
use muster_pki::bundle::Bundle;
use muster_pki::jwt::JwtSvid;
use muster_runtime::Clock;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::machine::{Cache, Contact};
use super::signing::SignFailure;
use super::token_targets::TokenTarget;
use super::tokens::Age;
use super::unknown_keys::UnknownKeys;
use super::view::WorkloadView;

/// How long a caller waits for the server's first word after a start.
const FIRST_WORD: Duration = Duration::from_secs(5);
/// How long a caller waits for a token that is not held.
const TOKEN_WAIT: Duration = Duration::from_secs(10);
/// How long a caller waits for a fresher token when a valid one is held.
const RENEWAL_WAIT: Duration = Duration::from_secs(3);
/// How many tokens may be asked for at once; a caller beyond that is told to come back.
const MOST_ORDERS: usize = 1_024;

/// A token that is given to a caller.
#[derive(Clone, Debug)]
pub struct HeldJwt {
    /// The entry that gives it.
    pub entry_id: EntryId,
    /// Whose it is.
    pub id: SpiffeId,
    /// A name for the workload to choose by.
    pub hint: Option<Hint>,
    /// The token.
    pub svid: Arc<JwtSvid>,
}

/// Why a caller gets no token.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum JwtFetchError {
    /// No entry matches, or none with the identity that was asked for.
    #[error("no identity issued")]
    NotEntitled,
    /// The server was not heard yet since the start.
    #[error("the server has not been reached since this node agent started")]
    NotReady,
    /// Too many callers ask at once.
    #[error("too many tokens are being asked for")]
    Busy,
    /// The server can't be reached or could not answer.
    #[error("the server can't be reached")]
    Unreachable,
    /// The server answered no.
    #[error("the server refused to sign")]
    Refused,
}

/// A token to be asked for. Each needs a [`Handle::token_signed`].
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct JwtOrder {
    /// Under which entry.
    pub entry_id: EntryId,
    /// For whom, in this order.
    pub audience: Arc<[String]>,
    /// 0 for a token that all who ask at once may share; otherwise a number of its own.
    nonce: u64,
}

type TokenResult = Result<Arc<JwtSvid>, SignFailure>;

/// The one cache, shared. Clones are cheap.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

struct Shared {
    /// Held for the length of a state change, never over an await.
    inner: Mutex<Inner>,
    clock: Arc<dyn Clock>,
    /// Wakes who drives the cache: there may be something due earlier than it thought.
    wake: Notify,
    changed: watch::Sender<u64>,
    settled: watch::Sender<bool>,
    orders: mpsc::Sender<JwtOrder>,
    unknown_keys: UnknownKeys,
}

#[derive(Debug)]
struct Inner {
    cache: Cache,
    /// Tokens that are being asked for, and who waits for each.
    flights: HashMap<JwtOrder, Vec<oneshot::Sender<TokenResult>>>,
    nonce: u64,
}

impl Handle {
    /// Shares `cache`. The orders for tokens come out of the receiver.
    pub fn new(cache: Cache, clock: Arc<dyn Clock>) -> (Self, mpsc::Receiver<JwtOrder>) {
        let (orders, ordered) = mpsc::channel(MOST_ORDERS);
        let settled = watch::Sender::new(cache.contact() == Contact::Settled);
        let inner = Mutex::new(Inner {
            cache,
            flights: HashMap::new(),
            nonce: 0,
        });
        let (wake, changed) = (Notify::new(), watch::Sender::new(0));
        (
            Self {
                shared: Arc::new(Shared {
                    inner,
                    clock,
                    wake,
                    changed,
                    settled,
                    orders,
                    unknown_keys: UnknownKeys::default(),
                }),
            },
            ordered,
        )
    }

    /// What callers with `facts` may have, now and later. Nothing is sent when nothing changed, and only the latest view is seen. Dropping the receiver ends
    /// the interest.
    pub fn subscribe(&self, facts: &Facts) -> watch::Receiver<Arc<WorkloadView>> {
        let now = self.shared.clock.now();
        let mut inner = self.lock();
        let before = inner.cache.next_wake();
        let receiver = inner.cache.subscribe(facts, now);
        if inner.cache.next_wake() != before {
            self.shared.wake.notify_one();
        }
        receiver
    }

    /// One token for each identity that callers with `facts` may have, or only for `id`'s.
    pub async fn jwt_svids(
        &self,
        facts: &Facts,
        id: Option<&SpiffeId>,
        audience: Vec<String>,
    ) -> Result<Vec<HeldJwt>, JwtFetchError> {
        let audience: Arc<[String]> = audience.into();
        let mut asked = self.ask(facts, id, &audience);
        if asked.is_empty() && !*self.shared.settled.borrow() {
            let mut settled = self.shared.settled.subscribe();
            let first_word = settled.wait_for(|settled| *settled);
            tokio::time::timeout(FIRST_WORD, first_word)
                .await
                .map_err(|_| JwtFetchError::NotReady)?
                .ok();
            asked = self.ask(facts, id, &audience);
        }
        if asked.is_empty() {
            return Err(JwtFetchError::NotEntitled);
        }
        let mut tokens = Vec::with_capacity(asked.len());
        for (target, answer) in asked {
            let svid = match answer {
                Some(answer) => self.answer(answer, target.held).await?,
                None => target.held.map(|(svid, _)| svid).ok_or(JwtFetchError::Busy)?,
            };
            let TokenTarget {
                entry_id, id, hint, ..
            } = target;
            tokens.push(HeldJwt {
                entry_id,
                id,
                hint,
                svid,
            });
        }
        Ok(tokens)
    }

    /// A token of a foreign trust domain names a key that its bundle lacks.
    pub fn met_unknown_key(&self, trust_domain: &TrustDomain) {
        self.shared
            .unknown_keys
            .met(trust_domain, self.shared.clock.now());
    }

    /// The next trust domain of which a key is missing. Safe to drop half-way.
    pub async fn unknown_key(&self) -> TrustDomain {
        self.shared.unknown_keys.next().await
    }

    /// The bundle of the own trust domain.
    pub fn own_bundle(&self) -> Arc<Bundle> {
        Arc::clone(self.lock().cache.own_bundle())
    }

    /// Whether some entry would match if everything of which `unknown` is true were a fact too.
    pub fn could_match(&self, facts: &Facts, unknown: &dyn Fn(&Selector) -> bool) -> bool {
        self.lock().cache.could_match(facts, unknown)
    }

    /// Changes the cache, at the time that it is. For the one task that drives it; whoever follows [`Handle::changes`] hears of it.
    pub fn with<T>(&self, act: impl FnOnce(&mut Cache, UnixTime) -> T) -> T {
        let mut inner = self.lock();
        let before = inner.cache.changes();
        let result = act(&mut inner.cache, self.shared.clock.now());
        let after = inner.cache.changes();
        drop(inner);
        if after != before {
            self.shared.changed.send_replace(after);
        }
        result
    }

    /// Reads the cache.
    pub fn read<T>(&self, look: impl FnOnce(&Cache) -> T) -> T {
        look(&self.lock().cache)
    }

    /// The server was heard, or could not be: callers wait for its first word no longer.
    pub fn contact_settled(&self) {
        if !*self.shared.settled.borrow() {
            self.with(|cache, now| cache.contact_settled(now));
            self.shared.settled.send_replace(true);
        }
    }

    /// What became of an order for a token.
    pub fn token_signed(&self, order: &JwtOrder, result: TokenResult) {
        let now = self.shared.clock.now();
        let mut inner = self.lock();
        let result = result.and_then(|svid| {
            let kept = inner
                .cache
                .token_signed(&order.entry_id, &order.audience, &svid, now);
            if kept { Ok(svid) } else { Err(SignFailure::Refused) }
        });
        for waiting in inner.flights.remove(order).into_iter().flatten() {
            // Who went away meanwhile needs no answer.
            waiting.send(result.clone()).ok();
        }
    }

    /// Counts the changes that a copy on disk should follow.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changed.subscribe()
    }

    /// Returns when something may be due earlier than [`Cache::next_wake`] said last.
    pub async fn woken(&self) {
        self.shared.wake.notified().await;
    }

    /// Looks up the tokens and asks for those that are not held or not fresh. No receiver: held, or not asked for because too much is asked already.
    fn ask(
        &self,
        facts: &Facts,
        id: Option<&SpiffeId>,
        audience: &Arc<[String]>,
    ) -> Vec<(TokenTarget, Option<oneshot::Receiver<TokenResult>>)> {
        let now = self.shared.clock.now();
        let mut inner = self.lock();
        let targets = inner.cache.token_targets(facts, id, audience, now);
        let mut asked = Vec::with_capacity(targets.len());
        for target in targets {
            let fresh = matches!(target.held, Some((_, Age::Fresh)));
            let answer = if fresh {
                None
            } else {
                self.order(&mut inner, &target, audience)
            };
            asked.push((target, answer));
        }
        asked
    }

    fn order(
        &self,
        inner: &mut Inner,
        target: &TokenTarget,
        audience: &Arc<[String]>,
    ) -> Option<oneshot::Receiver<TokenResult>> {
        inner.nonce += 1;
        let nonce = if target.single_use { inner.nonce } else { 0 };
        let order = JwtOrder {
            entry_id: target.entry_id.clone(),
            audience: Arc::clone(audience),
            nonce,
        };
        let (answer, answered) = oneshot::channel();
        if let Some(waiting) = inner.flights.get_mut(&order) {
            waiting.retain(|waiting| !waiting.is_closed());
            waiting.push(answer);
        } else {
            self.shared.orders.try_send(order.clone()).ok()?;
            inner.flights.insert(order, vec![answer]);
        }
        Some(answered)
    }

    /// Waits for a token; one that is held and still valid is the way out of every failure (I11).
    async fn answer(
        &self,
        answer: oneshot::Receiver<TokenResult>,
        held: Option<(Arc<JwtSvid>, Age)>,
    ) -> Result<Arc<JwtSvid>, JwtFetchError> {
        let wait = if held.is_some() { RENEWAL_WAIT } else { TOKEN_WAIT };
        let failure = match tokio::time::timeout(wait, answer).await {
            Ok(Ok(Ok(svid))) => return Ok(svid),
            // A refusal counts: what the server would not sign now is not handed out from before.
            Ok(Ok(Err(SignFailure::Refused))) => return Err(JwtFetchError::Refused),
            Ok(Ok(Err(SignFailure::Unreachable)) | Err(_)) | Err(_) => JwtFetchError::Unreachable,
        };
        let now = self.shared.clock.now();
        held.map(|(svid, _)| svid)
            .filter(|svid| svid.expires_at() > now)
            .ok_or(failure)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic under the lock is a bug that ends its task; the cache is whole between two of its statements or the next view says so.
        self.shared.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("sizes", &self.read(Cache::sizes))
            .finish()
    }
}
