//! What the attestors have said of one caller under one evidence.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use muster_identity::Facts;
use muster_plugin_api::{Attestation, Gap, Hope};
use muster_transport::{Evidence, Look};
use tokio::time::Instant;

/// How soon an attestor that had gaps is asked again: what is down stays so for a moment, and a caller should not wait for it at every call.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// How old the whole evidence may be when something is sent: the light look does not see a change of supplementary groups, which
/// only a privileged process can make.
const WHOLE_LOOK: Duration = Duration::from_secs(60);

/// The answers of all attestors, in their order.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) evidence: Arc<Evidence>,
    answers: Vec<Attestation>,
    facts: Arc<Facts>,
    gaps: Arc<[Gap]>,
    asked: Instant,
    /// When the whole evidence was last found to stand, in seconds after `asked`.
    looked: AtomicU64,
}

impl Known {
    pub(super) fn new(evidence: Arc<Evidence>, answers: Vec<Attestation>) -> Self {
        let facts = answers
            .iter()
            .flat_map(|answer| answer.facts.iter().cloned())
            .collect();
        let gaps = answers
            .iter()
            .flat_map(|answer| answer.gaps.iter().cloned())
            .collect();
        Self {
            evidence,
            answers,
            facts: Arc::new(facts),
            gaps,
            asked: Instant::now(),
            looked: AtomicU64::new(0),
        }
    }

    pub(super) fn facts(&self) -> &Arc<Facts> {
        &self.facts
    }

    pub(super) fn gaps(&self) -> &Arc<[Gap]> {
        &self.gaps
    }

    /// How closely the caller must be looked at now.
    pub(super) fn look(&self) -> Look {
        let (now, before) = (
            self.asked.elapsed().as_secs(),
            self.looked.load(Ordering::Relaxed),
        );
        if now < before + WHOLE_LOOK.as_secs() {
            return Look::Light;
        }
        // Of two that look at once one does it wholly.
        match self
            .looked
            .compare_exchange(before, now, Ordering::Relaxed, Ordering::Relaxed)
        {
            Ok(_) => Look::Whole,
            Err(_) => Look::Light,
        }
    }

    /// Whether some attestor might know more by now.
    pub(super) fn worth_asking_again(&self) -> bool {
        self.asked.elapsed() >= ASK_AGAIN && self.gaps.iter().any(|gap| gap.hope() == Hope::MayHeal)
    }

    /// Whether attestor number `index` left a gap that may be filled.
    pub(super) fn may_heal(&self, index: usize) -> bool {
        self.answers
            .get(index)
            .is_none_or(|answer| answer.gaps.iter().any(|gap| gap.hope() == Hope::MayHeal))
    }

    /// What attestor number `index` said.
    pub(super) fn answer(&self, index: usize) -> Option<&Attestation> {
        self.answers.get(index)
    }
}

/// Both answers of one attestor about one caller under one evidence: facts stand, and a gap is gone where something was known.
pub(super) fn join(earlier: &Attestation, later: Attestation) -> Attestation {
    let facts = earlier.facts.clone().union(later.facts);
    let mut gaps = later.gaps;
    gaps.retain(|gap| !facts.iter().any(|fact| gap.covers(fact.selector())));
    Attestation { facts, gaps }
}
