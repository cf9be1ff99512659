//! A meter for an attestor.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;

use crate::{AttestError, Attestation, Caller, WorkloadAttestor};

/// Who is told how long an attestation took and how it ended.
pub trait Meter: Send + Sync {
    /// Called once for each attestation that was not cancelled.
    fn attested(&self, attestor: &'static str, outcome: Outcome, took: Duration);
}

/// How an attestation ended.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Outcome {
    /// Everything is known.
    Complete,
    /// Something is not known.
    Gaps,
    /// It is decided that the process gets nothing.
    Refused,
    /// No answer in time.
    Slow,
    /// Nothing is known.
    Failed,
}

/// Tells a [`Meter`] about each attestation.
pub struct Measured<A> {
    attestor: A,
    meter: Arc<dyn Meter>,
}

impl<A> Measured<A> {
    /// `attestor`, watched by `meter`.
    pub fn new(attestor: A, meter: Arc<dyn Meter>) -> Self {
        Self { attestor, meter }
    }
}

#[async_trait]
impl<A: WorkloadAttestor> WorkloadAttestor for Measured<A> {
    fn name(&self) -> &'static str {
        self.attestor.name()
    }

    fn types(&self) -> &'static [&'static str] {
        self.attestor.types()
    }

    async fn attest(&self, caller: &Caller) -> Result<Attestation, AttestError> {
        let begun = Instant::now();
        let answer = self.attestor.attest(caller).await;
        let outcome = match &answer {
            Ok(attestation) if attestation.gaps.is_empty() => Outcome::Complete,
            Ok(_) => Outcome::Gaps,
            Err(AttestError::Refused(_)) => Outcome::Refused,
            Err(AttestError::Slow(_)) => Outcome::Slow,
            Err(AttestError::Caller(_) | AttestError::Failed { .. }) => Outcome::Failed,
        };
        self.meter.attested(self.name(), outcome, begun.elapsed());
        answer
    }
}
