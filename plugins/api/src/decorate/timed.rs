//! A deadline for an attestor.

use std::time::Duration;

use async_trait::async_trait;

use crate::{AttestError, Attestation, Caller, WorkloadAttestor};

/// Cuts an attestor off after a deadline. What it would have said is then unknown, and the call goes on without it.
#[derive(Debug)]
pub struct Timed<A> {
    attestor: A,
    deadline: Duration,
}

impl<A> Timed<A> {
    /// `attestor`, with at most `deadline` for each caller.
    pub fn new(attestor: A, deadline: Duration) -> Self {
        Self { attestor, deadline }
    }
}

#[async_trait]
impl<A: WorkloadAttestor> WorkloadAttestor for Timed<A> {
    fn name(&self) -> &'static str {
        self.attestor.name()
    }

    fn types(&self) -> &'static [&'static str] {
        self.attestor.types()
    }

    async fn attest(&self, caller: &Caller) -> Result<Attestation, AttestError> {
        match tokio::time::timeout(self.deadline, self.attestor.attest(caller)).await {
            Ok(answer) => answer,
            Err(_) => Err(AttestError::Slow(self.deadline)),
        }
    }
}
