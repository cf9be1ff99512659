//! Looking after callers whose streams are open: one that becomes another is noticed within a second.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use muster_transport::Look;
use tokio::time::{MissedTickBehavior, interval};

use super::connection::{Peer, WeakPeer};

/// How often it is asked which program a caller runs. The kernel tells nobody of an exec, so it has to be asked.
const EACH: Duration = Duration::from_secs(1);

/// Every which of these looks is as close as before something is sent. Not all callers have theirs in the same second.
const CLOSER: u64 = 10;

/// After how many callers other tasks get their turn.
const AT_ONCE: usize = 64;

/// The connections of a door. One task looks at all of them, which costs a call of the kernel for each that has a stream open, where a
/// timer for each stream would cost more than the look.
#[derive(Default)]
pub struct Watch {
    peers: Mutex<Vec<WeakPeer>>,
}

impl Watch {
    /// Looks after `peer` as long as its connection lives.
    pub fn add(&self, peer: &Peer) {
        self.peers().push(peer.downgrade());
    }

    /// Looks, each second, for ever. What is found shows in [`voided`](super::AttestedCaller::voided).
    pub async fn keep(&self) {
        let mut ticks = interval(EACH);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for round in 0.. {
            ticks.tick().await;
            self.look_at_all(round).await;
        }
    }

    async fn look_at_all(&self, round: u64) {
        let followed: Vec<Peer> = {
            let mut peers = self.peers();
            peers.retain(|peer| !peer.is_gone());
            peers
                .iter()
                .filter_map(WeakPeer::upgrade)
                .filter(Peer::is_followed)
                .collect()
        };
        for (n, peer) in followed.into_iter().enumerate() {
            look_at(&peer, round);
            if n % AT_ONCE == AT_ONCE - 1 {
                tokio::task::yield_now().await;
            }
        }
    }

    fn peers(&self) -> MutexGuard<'_, Vec<WeakPeer>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn look_at(peer: &Peer, round: u64) {
    // Nothing is known while it is being measured anew, and then it has been looked at.
    let Some(known) = peer.known() else { return };
    let witness = peer.witness();
    let closer = (round + u64::from(witness.process().pid())).is_multiple_of(CLOSER);
    let look = if closer { known.look() } else { Look::Program };
    if let Err(refusal) = witness.still(&known.evidence, look) {
        tracing::debug!(pid = witness.process().pid(), reason = %refusal, "a caller with open streams is not what it was");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use muster_plugin_api::WorkloadAttestor;
    use muster_plugin_api::decorate::{Meter, Outcome};
    use muster_plugin_api::fake::{FakeWorkloadAttestor, Mood};
    use muster_transport::{Changed, Refusal};

    use super::*;
    use crate::peer::fake::FakeWitness;
    use crate::peer::{AttestedCaller, Attestors};

    struct Unwatched;

    impl Meter for Unwatched {
        fn attested(&self, _: &'static str, _: Outcome, _: Duration) {}
    }

    async fn attested(peer: &Peer) -> AttestedCaller {
        let nothing: Arc<dyn WorkloadAttestor> = Arc::new(FakeWorkloadAttestor::new(
            &["one"],
            Mood::Answers(Vec::new(), Vec::new()),
        ));
        let meter: Arc<dyn Meter> = Arc::new(Unwatched);
        Attestors::new(vec![nothing], &meter).attest(peer).await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_with_an_open_stream_that_runs_another_program_is_noticed_without_a_request() {
        let (watch, witness) = (Watch::default(), FakeWitness::new());
        let peer = Peer::new(witness.clone());
        watch.add(&peer);
        let caller = attested(&peer).await;
        let _followed = caller.follow();
        let started = tokio::time::Instant::now();
        let refusal = tokio::select! {
            () = watch.keep() => unreachable!("it looks for ever"),
            refusal = caller.voided() => refusal,
            () = async {
                tokio::time::sleep(Duration::from_millis(2_500)).await;
                witness.exec(2);
                std::future::pending::<()>().await;
            } => unreachable!("it waits for ever"),
        };
        assert!(matches!(
            refusal,
            Refusal::Changed {
                changed: Changed::Executable,
                ..
            }
        ));
        assert_eq!(started.elapsed(), Duration::from_secs(3), "the next look sees it");
    }

    #[tokio::test]
    async fn callers_without_a_stream_are_not_looked_at_and_closed_connections_are_forgotten() {
        let (watch, witness) = (Watch::default(), FakeWitness::new());
        let peer = Peer::new(witness.clone());
        watch.add(&peer);
        let caller = attested(&peer).await;
        drop(caller.follow());
        witness.exec(2);
        watch.look_at_all(0).await;
        assert_eq!(witness.looks_that_saw_another(), 0);
        let followed = caller.follow();
        watch.look_at_all(1).await;
        assert_eq!(witness.looks_that_saw_another(), 1);
        drop((followed, caller, peer));
        watch.look_at_all(2).await;
        assert!(watch.peers().is_empty());
    }
}
