//! A workload attestor that says what a test told it.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use muster_identity::{Fact, FactSource, Selector};

use crate::{AttestError, Attestation, Caller, Gap, WorkloadAttestor};

/// States the selectors it was given, of every process; or is down, refuses or hangs.
pub struct FakeWorkloadAttestor {
    types: &'static [&'static str],
    mood: Mutex<Mood>,
    asked: AtomicUsize,
}

/// What the fake does when it is asked.
#[derive(Clone, Debug)]
pub enum Mood {
    /// States these selectors, and leaves these gaps.
    Answers(Vec<Selector>, Vec<Gap>),
    /// Fails.
    Down,
    /// Says that the process gets nothing.
    Refuses,
    /// Never answers.
    Hangs,
}

impl FakeWorkloadAttestor {
    /// An attestor of these selector types, in this mood.
    pub fn new(types: &'static [&'static str], mood: Mood) -> Self {
        Self {
            types,
            mood: Mutex::new(mood),
            asked: AtomicUsize::new(0),
        }
    }

    /// From now on it does this.
    pub fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap_or_else(PoisonError::into_inner) = mood;
    }

    /// How many times it was asked.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Acquire)
    }

    fn mood(&self) -> Mood {
        self.mood.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl WorkloadAttestor for FakeWorkloadAttestor {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn types(&self) -> &'static [&'static str] {
        self.types
    }

    async fn attest(&self, caller: &Caller) -> Result<Attestation, AttestError> {
        self.asked.fetch_add(1, Ordering::AcqRel);
        match self.mood() {
            Mood::Answers(selectors, gaps) => {
                caller.check_alive()?;
                let facts = selectors
                    .into_iter()
                    .map(|selector| Fact::new(selector, FactSource::Kernel))
                    .collect();
                Ok(Attestation { facts, gaps })
            }
            Mood::Down => Err(AttestError::failed("asking the fake", "it was told to be down")),
            Mood::Refuses => Err(AttestError::Refused("the fake was told to refuse".to_owned())),
            Mood::Hangs => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance;
    use crate::fake::FakeCaller;

    #[tokio::test]
    async fn the_fake_keeps_the_promises_of_a_workload_attestor() {
        let folder = tempfile::tempdir().unwrap();
        let process = FakeCaller::new(folder.path()).build().unwrap();
        let answers = Mood::Answers(vec!["fake:a".parse().unwrap()], Vec::new());
        conformance::workload_attestor(&FakeWorkloadAttestor::new(&["fake"], answers), &process).await;
    }
}
