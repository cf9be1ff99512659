//! What turns a process into facts.

use std::fmt;

use async_trait::async_trait;
use muster_identity::{Facts, Selector};

use crate::{Caller, CallerError};

/// Turns a process into facts, each with its source.
///
/// Facts are measured by us and never believed from the process: its arguments, environment and titles are its own memory.
#[async_trait]
pub trait WorkloadAttestor: Send + Sync {
    /// The plugin's name in configuration, logs and metrics.
    fn name(&self) -> &'static str;

    /// The selector types that come from this attestor and from no other. A fact of any other type is dropped.
    fn types(&self) -> &'static [&'static str];

    /// The facts of `caller`. Safe to cancel: dropping the future leaves nothing half done.
    async fn attest(&self, caller: &Caller) -> Result<Attestation, AttestError>;
}

/// What an attestor found, and what it could not find out.
#[derive(Clone, Debug, Default)]
pub struct Attestation {
    /// What holds of the caller.
    pub facts: Facts,
    /// What might hold of it but is not known.
    pub gaps: Vec<Gap>,
}

/// Facts that are not known: whatever an entry demands of them is not met (I7), but the caller may be told to come back.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Gap {
    kind: &'static str,
    prefix: &'static str,
    hope: Hope,
    reason: String,
}

/// Whether asking again may fill a gap.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Hope {
    /// Something was down, busy or slow.
    MayHeal,
    /// It will stay so for this process: a program over the size limit, a file system that is never read.
    Final,
}

/// Why an attestor has nothing to say about a caller.
#[derive(Debug, thiserror::Error)]
pub enum AttestError {
    /// The process ended meanwhile.
    #[error(transparent)]
    Caller(#[from] CallerError),
    /// It is decided that this process gets nothing from anyone: an unmapped uid, for example.
    #[error("refused: {0}")]
    Refused(String),
    /// It took longer than it may.
    #[error("no answer within {0:?}")]
    Slow(std::time::Duration),
    /// What it asks is down or broken.
    #[error("{what}")]
    Failed {
        /// What was being done.
        what: String,
        /// Why that failed.
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}

impl Gap {
    /// All facts of selector type `kind`.
    pub fn of_type(kind: &'static str, hope: Hope, reason: impl Into<String>) -> Self {
        Self::new(kind, "", hope, reason)
    }

    /// The facts of selector type `kind` whose value begins with `prefix`, such as `sha256:`.
    pub fn new(kind: &'static str, prefix: &'static str, hope: Hope, reason: impl Into<String>) -> Self {
        Self {
            kind,
            prefix,
            hope,
            reason: reason.into(),
        }
    }

    /// Whether this selector might be met if the gap were filled.
    pub fn covers(&self, selector: &Selector) -> bool {
        selector.kind() == self.kind && selector.value().starts_with(self.prefix)
    }

    /// Whether asking again may fill it.
    pub fn hope(&self) -> Hope {
        self.hope
    }

    /// Why the facts are not known, for the log.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}* unknown: {}", self.kind, self.prefix, self.reason)
    }
}

#[async_trait]
impl<A: WorkloadAttestor + ?Sized> WorkloadAttestor for std::sync::Arc<A> {
    fn name(&self) -> &'static str {
        (**self).name()
    }

    fn types(&self) -> &'static [&'static str] {
        (**self).types()
    }

    async fn attest(&self, caller: &Caller) -> Result<Attestation, AttestError> {
        (**self).attest(caller).await
    }
}

impl AttestError {
    /// A failure of something that was asked.
    pub fn failed(
        what: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Failed {
            what: what.into(),
            source: Some(source.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_covers_its_own_type_and_prefix_only() {
        let gap = Gap::new("unix", "sha256:", Hope::MayHeal, "no hasher is free");
        assert!(gap.covers(&"unix:sha256:00".parse().unwrap()));
        assert!(!gap.covers(&"unix:path:/bin/true".parse().unwrap()));
        assert!(!gap.covers(&"docker:sha256:00".parse().unwrap()));
        assert!(Gap::of_type("unix", Hope::Final, "down").covers(&"unix:path:/bin/true".parse().unwrap()));
        assert_eq!(gap.to_string(), "unix:sha256:* unknown: no hasher is free");
    }
}
