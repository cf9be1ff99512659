//! The proof that the pinned process itself speaks on its connection.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Waker},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use crate::{
    evidence::{Evidence, Look},
    namespaces::Namespaces,
    process::Process,
    refusal::{Changed, Refusal},
};

/// How long a client has to answer the PING before it is told Unavailable.
pub const PROOF_TIMEOUT: Duration = Duration::from_secs(5);

/// The presence of one connection's process; the connection info of [`UdsConn`](crate::UdsConn). Clones are handles.
///
/// A handler attests with [`evidence`](Self::evidence) while the PING is under way, awaits
/// [`proven`](Self::proven), and asks [`still`](Self::still) before each thing it sends.
#[derive(Clone)]
pub struct Presence(Arc<Shared>);

struct Shared {
    process: Process,
    namespaces: Arc<Namespaces>,
    /// Each proof is a round: an answer to the PING of an earlier one proves nothing about newer evidence.
    state: Mutex<Round>,
    changed: Notify,
    /// The connection should send a PING. Beside the lock, since it is looked at before each read and write.
    ping_due: AtomicBool,
}

struct Round {
    number: u64,
    state: State,
    /// Wakes the connection's task, for a PING on an idle connection.
    connection: Option<Waker>,
}

impl Round {
    fn final_refusal(&self) -> Option<Refusal> {
        match &self.state {
            State::Refused(refusal) if refusal.is_final() => Some(refusal.clone()),
            _ => None,
        }
    }
}

enum State {
    /// Nothing was read yet.
    New,
    /// The PING is on its way.
    Waiting(Arc<Evidence>),
    /// Proven, or foreign and beyond proof.
    Proven(Arc<Evidence>),
    Refused(Refusal),
}

impl Presence {
    pub(crate) fn new(process: Process, namespaces: Arc<Namespaces>) -> Self {
        let state = Round {
            number: 0,
            state: State::New,
            connection: None,
        };
        Self(Arc::new(Shared {
            process,
            namespaces,
            state: Mutex::new(state),
            changed: Notify::new(),
            ping_due: AtomicBool::new(false),
        }))
    }

    /// The process that connected.
    pub fn process(&self) -> &Process {
        &self.0.process
    }

    /// The evidence of the current round, taken before its PING left. It is not proven yet: attest with it, then await
    /// [`proven`](Self::proven) and compare.
    pub fn evidence(&self) -> Result<Arc<Evidence>, Refusal> {
        match &self.round().state {
            State::Waiting(evidence) | State::Proven(evidence) => return Ok(Arc::clone(evidence)),
            State::Refused(refusal) => return Err(refusal.clone()),
            State::New => {}
        }
        self.take()
    }

    /// Waits until the process has answered the PING of the current round; answers the evidence it is proven for.
    /// Foreign callers have nothing to prove: look at the evidence's standing.
    pub async fn proven(&self, timeout: Duration) -> Result<Arc<Evidence>, Refusal> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(outcome) = self.outcome() {
                return outcome;
            }
            let mut changed = std::pin::pin!(self.0.changed.notified());
            // Registered before the second look, so that no change slips between look and wait.
            changed.as_mut().enable();
            if let Some(outcome) = self.outcome() {
                return outcome;
            }
            if tokio::time::timeout_at(deadline, changed).await.is_err() {
                return self.outcome().unwrap_or(Err(Refusal::Silent { pid: self.pid() }));
            }
        }
    }

    /// Whether `evidence` is proven and still true of the process, as closely as `look` says.
    pub fn still(&self, evidence: &Evidence, look: Look) -> Result<(), Refusal> {
        self.stands(evidence)?;
        evidence.check(self.process(), look).inspect_err(|refusal| {
            let mut round = self.round();
            if matches!(&round.state, State::Proven(proven) if **proven == *evidence) {
                round.state = State::Refused(refusal.clone());
                drop(round);
                self.0.changed.notify_waiters();
            }
        })
    }

    /// Completes when `evidence` stands no longer, as far as somebody has noticed: the process ended or was found changed,
    /// or its evidence was taken anew.
    pub async fn voided(&self, evidence: &Evidence) -> Refusal {
        loop {
            if let Err(refusal) = self.stands(evidence) {
                return refusal;
            }
            let mut changed = std::pin::pin!(self.0.changed.notified());
            // Registered before the second look, so that no change slips between look and wait.
            changed.as_mut().enable();
            if let Err(refusal) = self.stands(evidence) {
                return refusal;
            }
            changed.await;
        }
    }

    /// Takes the evidence anew and has the process prove its presence again: at a new request of a caller whose
    /// evidence changed. Facts that rest on the evidence before are void.
    pub async fn renew(&self, timeout: Duration) -> Result<Arc<Evidence>, Refusal> {
        self.take()?;
        self.proven(timeout).await
    }

    /// Completes when the process has exited.
    pub async fn ended(&self) {
        self.0.process.ended().await;
    }

    /// Takes the evidence before the first byte is read or written.
    pub(crate) fn begin(&self) {
        if matches!(self.round().state, State::New) {
            // The refusal is kept for the handlers: closing now would hide the reason from the caller.
            let _ = self.take();
        }
    }

    /// Whether a PING should leave, which then is this caller's to send: answers the round it will prove.
    pub(crate) fn claim_ping(&self) -> Option<u64> {
        if !self.0.ping_due.load(Ordering::Acquire) {
            return None;
        }
        let round = self.round();
        self.0.ping_due.store(false, Ordering::Release);
        matches!(round.state, State::Waiting(_)).then_some(round.number)
    }

    /// The pinned process answered the PING of round `number`: it is present if nothing changed since the evidence.
    pub(crate) fn answered(&self, number: u64) {
        let evidence = match &*self.round() {
            Round {
                number: current,
                state: State::Waiting(evidence),
                ..
            } if *current == number => Arc::clone(evidence),
            _ => return,
        };
        let outcome = evidence.check(self.process(), Look::Light);
        let mut round = self.round();
        if round.number != number || !matches!(round.state, State::Waiting(_)) {
            return;
        }
        round.state = match outcome {
            Ok(()) => State::Proven(evidence),
            Err(refusal) => State::Refused(refusal),
        };
        drop(round);
        self.0.changed.notify_waiters();
    }

    /// The connection is spoilt. The first reason stays.
    pub(crate) fn refuse(&self, refusal: Refusal) {
        let mut round = self.round();
        if round.final_refusal().is_some() {
            return;
        }
        round.state = State::Refused(refusal);
        self.0.ping_due.store(false, Ordering::Release);
        drop(round);
        self.0.changed.notify_waiters();
    }

    /// Remembers whom to wake when a PING is due.
    pub(crate) fn register(&self, cx: &Context<'_>) {
        let mut round = self.round();
        if !round
            .connection
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            round.connection = Some(cx.waker().clone());
        }
    }

    /// Reads the evidence anew and begins a round with it. The round's number is given when its evidence is there, so
    /// that no PING which left earlier can prove it. Of two handlers that do this at once the later one counts.
    fn take(&self) -> Result<Arc<Evidence>, Refusal> {
        if let Some(refusal) = self.round().final_refusal() {
            return Err(refusal);
        }
        let taken = Evidence::take(&self.0.process, &self.0.namespaces).map(Arc::new);
        let mut round = self.round();
        if let Some(refusal) = round.final_refusal() {
            return Err(refusal);
        }
        round.number += 1;
        round.state = match &taken {
            Ok(evidence) if evidence.standing.is_native() => State::Waiting(Arc::clone(evidence)),
            Ok(evidence) => State::Proven(Arc::clone(evidence)),
            Err(refusal) => State::Refused(refusal.clone()),
        };
        self.0
            .ping_due
            .store(matches!(round.state, State::Waiting(_)), Ordering::Release);
        let connection = round.connection.take();
        drop(round);
        self.0.changed.notify_waiters();
        if let Some(waker) = connection {
            waker.wake();
        }
        taken
    }

    fn outcome(&self) -> Option<Result<Arc<Evidence>, Refusal>> {
        match &self.round().state {
            State::New | State::Waiting(_) => None,
            State::Proven(evidence) => Some(Ok(Arc::clone(evidence))),
            State::Refused(refusal) => Some(Err(refusal.clone())),
        }
    }

    /// Whether `evidence` is the proven one, without a look at the process.
    fn stands(&self, evidence: &Evidence) -> Result<(), Refusal> {
        match &self.round().state {
            State::Proven(proven) if std::ptr::eq(&raw const **proven, evidence) || **proven == *evidence => {
                Ok(())
            }
            State::Refused(refusal) => Err(refusal.clone()),
            _ => Err(Refusal::Changed {
                pid: self.pid(),
                changed: Changed::Proof,
            }),
        }
    }

    fn pid(&self) -> i32 {
        self.0.process.pid()
    }

    fn round(&self) -> MutexGuard<'_, Round> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Presence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presence")
            .field("process", &self.0.process)
            .finish_non_exhaustive()
    }
}
