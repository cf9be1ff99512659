//! The border of an attestor's own selector types.

use async_trait::async_trait;
use tracing::warn;

use crate::{AttestError, Attestation, Caller, WorkloadAttestor};

/// The most facts that one attestor may state of one process; as many as a process can have supplementary groups would be 65,536.
pub const MAX_FACTS: usize = 1024;

/// Drops facts of selector types that are not the attestor's own, and whatever is beyond [`MAX_FACTS`]: a plugin that is broken or taken
/// over must not state what another one measures.
#[derive(Debug)]
pub struct Confined<A>(A);

impl<A> Confined<A> {
    /// `attestor`, held to its own types.
    pub fn new(attestor: A) -> Self {
        Self(attestor)
    }
}

#[async_trait]
impl<A: WorkloadAttestor> WorkloadAttestor for Confined<A> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn types(&self) -> &'static [&'static str] {
        self.0.types()
    }

    async fn attest(&self, caller: &Caller) -> Result<Attestation, AttestError> {
        let mut attestation = self.0.attest(caller).await?;
        let own = |kind: &str| self.types().contains(&kind);
        let stated = attestation.facts.iter().count();
        if stated > MAX_FACTS || !attestation.facts.iter().all(|fact| own(fact.selector().kind())) {
            let kept = attestation
                .facts
                .iter()
                .filter(|fact| own(fact.selector().kind()))
                .take(MAX_FACTS);
            attestation.facts = kept.cloned().collect();
            let dropped = stated - attestation.facts.iter().count();
            warn!(
                attestor = self.name(),
                dropped, "an attestor stated facts beyond its own types or their bound"
            );
        }
        Ok(attestation)
    }
}
