//! The attestors of this node, asked side by side.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use muster_plugin_api::decorate::{Confined, Measured, Meter, Timed};
use muster_plugin_api::{AttestError, Attestation, Caller, Gap, Hope, WorkloadAttestor};
use muster_transport::{Evidence, Look, Refusal};
use tracing::warn;

use super::caller::AttestedCaller;
use super::connection::Peer;
use super::known::{Known, join};
use super::witness::for_attestors;

/// How long an attestor may take: a little more than the longest wait inside one (a hash), so that its own gap says what was slow.
const DEADLINE: Duration = Duration::from_millis(5_500);

/// How often a caller whose evidence changes meanwhile is measured anew before it is sent away.
const ROUNDS: usize = 3;

/// The attestors of this node.
pub struct Attestors {
    attestors: Vec<Arc<dyn WorkloadAttestor>>,
}

/// Why a caller is not attested.
#[derive(Debug, thiserror::Error)]
pub enum Turned {
    /// It did not prove its presence, or is not what it was.
    #[error(transparent)]
    Presence(#[from] Refusal),
    /// An attestor decided that it gets nothing from anyone.
    #[error("the {attestor} attestor refused: {reason}")]
    Refused {
        /// Which one.
        attestor: &'static str,
        /// Why.
        reason: String,
    },
}

impl Attestors {
    /// `attestors`, each held to its own selector types and to a deadline, and watched by `meter`.
    pub fn new(attestors: Vec<Arc<dyn WorkloadAttestor>>, meter: &Arc<dyn Meter>) -> Self {
        let wrap = |attestor| -> Arc<dyn WorkloadAttestor> {
            Arc::new(Measured::new(
                Timed::new(Confined::new(attestor), DEADLINE),
                Arc::clone(meter),
            ))
        };
        Self {
            attestors: attestors.into_iter().map(wrap).collect(),
        }
    }

    /// What is remembered of `peer`, if nothing better is to be had. It is not looked at again: ask [`AttestedCaller::still`] before
    /// anything is sent to it, and also before it is sent away for what it lacks.
    pub fn recall(&self, peer: &Peer) -> Option<AttestedCaller> {
        let known = peer.known().filter(|known| !known.worth_asking_again())?;
        Some(AttestedCaller::new(peer.clone(), known))
    }

    /// The facts of `peer`, with proof that it was present when they were measured and still is what it was.
    pub async fn attest(&self, peer: &Peer) -> Result<AttestedCaller, Turned> {
        if let Some(caller) = self.remembered(peer) {
            return Ok(caller);
        }
        let _turn = peer.turn().await;
        if let Some(caller) = self.remembered(peer) {
            return Ok(caller);
        }
        let mut last = None;
        for _ in 0..ROUNDS {
            match self.measure(peer).await {
                Ok(known) => {
                    peer.remember(Some(Arc::clone(&known)));
                    return Ok(AttestedCaller::new(peer.clone(), known));
                }
                // It ran another program meanwhile, or was moved: what was measured is void, and it may be measured anew.
                Err(Turned::Presence(changed @ Refusal::Changed { .. })) => last = Some(changed),
                Err(turned) => return Err(turned),
            }
        }
        Err(last.unwrap_or(Refusal::Closed { pid: 0 }).into())
    }

    /// What is remembered of `peer`, if it still stands.
    fn remembered(&self, peer: &Peer) -> Option<AttestedCaller> {
        self.recall(peer).filter(|caller| caller.still().is_ok())
    }

    /// One measurement under one evidence.
    async fn measure(&self, peer: &Peer) -> Result<Arc<Known>, Turned> {
        let witness = peer.witness();
        let earlier = peer
            .known()
            .filter(|known| witness.still(&known.evidence, Look::Light).is_ok());
        let evidence = match &earlier {
            Some(known) => Arc::clone(&known.evidence),
            None => {
                peer.remember(None);
                match witness.evidence() {
                    Ok(evidence)
                        if witness.still(&evidence, Look::Light).is_ok()
                            || peer_is_new(witness, &evidence) =>
                    {
                        evidence
                    }
                    Ok(_)
                    | Err(Refusal::Changed { .. } | Refusal::Silent { .. } | Refusal::Unreadable { .. }) => {
                        witness.renew().await?
                    }
                    Err(refusal) => return Err(refusal.into()),
                }
            }
        };
        let caller = Caller::new(witness.process(), Arc::new(for_attestors(&evidence)));
        // Attestors work while the answer to the PING is on its way.
        let proof = async { witness.proven().await.map_err(Turned::from) };
        let (answers, _) = tokio::try_join!(self.ask(&caller, earlier.as_deref()), proof)?;
        // This compares with what was proven too: an answer for other evidence does not count.
        witness.still(&evidence, Look::Whole)?;
        Ok(Arc::new(Known::new(evidence, answers)))
    }

    async fn ask(&self, caller: &Caller, earlier: Option<&Known>) -> Result<Vec<Attestation>, Turned> {
        let asked = self
            .attestors
            .iter()
            .enumerate()
            .map(|(index, attestor)| async move {
                let before = earlier.and_then(|known| known.answer(index));
                match before {
                    Some(before) if earlier.is_some_and(|known| !known.may_heal(index)) => Ok(before.clone()),
                    _ => settle(&**attestor, attestor.attest(caller).await, before),
                }
            });
        join_all(asked).await.into_iter().collect()
    }
}

/// An attestor's answer, or what its failure leaves: what it knew before under the same evidence, and gaps for the rest.
fn settle(
    attestor: &dyn WorkloadAttestor,
    answer: Result<Attestation, AttestError>,
    before: Option<&Attestation>,
) -> Result<Attestation, Turned> {
    let later = match answer {
        Ok(attestation) => attestation,
        Err(AttestError::Refused(reason)) => {
            return Err(Turned::Refused {
                attestor: attestor.name(),
                reason,
            });
        }
        Err(error) => {
            warn!(
                attestor = attestor.name(),
                error = &error as &dyn std::error::Error,
                "an attestor failed"
            );
            if let Some(before) = before {
                return Ok(before.clone());
            }
            let reason = format!("the {} attestor failed", attestor.name());
            let gap = |kind: &&'static str| Gap::of_type(kind, Hope::MayHeal, reason.clone());
            Attestation {
                gaps: attestor.types().iter().map(gap).collect(),
                ..Attestation::default()
            }
        }
    };
    Ok(match before {
        Some(before) => join(before, later),
        None => later,
    })
}

/// Whether nothing has been proven yet for this evidence: the PING is on its way.
fn peer_is_new(witness: &dyn super::Witness, evidence: &Evidence) -> bool {
    witness.evidence().is_ok_and(|current| *current == *evidence)
        && matches!(
            witness.still(evidence, Look::Light),
            Err(Refusal::Changed {
                changed: muster_transport::Changed::Proof,
                ..
            })
        )
}
