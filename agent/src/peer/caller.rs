//! A caller whose facts are known and who proved its presence.

use std::fmt;
use std::sync::Arc;

use muster_identity::{Facts, Selector};
use muster_plugin_api::{Gap, Hope};
use muster_transport::{Evidence, Refusal};

use super::connection::{Followed, Peer};
use super::known::Known;

/// A caller whose facts the attestors have established and who proved its presence under the same evidence (I1). Handlers that hand out
/// identities take this, so one that forgets to attest does not compile.
#[derive(Clone)]
pub struct AttestedCaller {
    peer: Peer,
    known: Arc<Known>,
}

impl AttestedCaller {
    pub(super) fn new(peer: Peer, known: Arc<Known>) -> Self {
        Self { peer, known }
    }

    /// What holds of it.
    pub fn facts(&self) -> &Arc<Facts> {
        self.known.facts()
    }

    /// What is not known of it.
    pub fn gaps(&self) -> &[Gap] {
        self.known.gaps()
    }

    /// Whether this might be a fact if an attestor that failed were asked again.
    pub fn may_yet_have(&self, selector: &Selector) -> bool {
        self.gaps()
            .iter()
            .any(|gap| gap.hope() == Hope::MayHeal && gap.covers(selector))
    }

    /// What the facts rest on.
    pub fn evidence(&self) -> &Arc<Evidence> {
        &self.known.evidence
    }

    /// Whether the facts still stand. Asked before each thing that is sent.
    pub fn still(&self) -> Result<(), Refusal> {
        self.peer.witness().still(&self.known.evidence, self.known.look())
    }

    /// Waits until the facts stand no longer, and answers why: the process ended, or [somebody](super::Watch) saw it change.
    pub async fn voided(&self) -> Refusal {
        self.peer.witness().voided(&self.known.evidence).await
    }

    /// Has the caller looked at as long as the answer lives.
    pub fn follow(&self) -> Followed {
        self.peer.follow()
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.peer.witness().process().pid()
    }
}

impl fmt::Debug for AttestedCaller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AttestedCaller")
            .field("pid", &self.pid())
            .field("known", &self.known)
            .finish()
    }
}
