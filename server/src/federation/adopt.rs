//! From a document that came to the log.

use muster_audit::{Action, Actor, Audit, AuditError, Event, Object, Outcome};
use muster_identity::TrustDomain;
use muster_pki::bundle::{Bundle, Succession};
use tracing::{info, warn};

use super::{Peers, Source};
use crate::bundles::{BundleRecordError, Bundles, TooLarge, bundle_from_bytes, federated_to_bytes};
use crate::registry::{CommitError, Registry, View};
use crate::store::{Change, Expect, Tree};

/// How often it is tried again when somebody else changes the same bundle.
const TRIES: usize = 64;

/// Puts bundles that came into the log.
#[derive(Clone)]
pub(super) struct Adopter {
    pub(super) registry: Registry,
    pub(super) bundles: Bundles,
    pub(super) peers: Peers,
    pub(super) audit: Audit,
}

/// Why a bundle that came is not taken; what is held stays.
#[derive(Debug, thiserror::Error)]
pub(super) enum AdoptError {
    /// The relationship ended, changed or was revoked while it was fetched.
    #[error("the relationship is not what it was when the bundle was asked for")]
    Over,
    /// Whoever answered was let in by what may not count any more.
    #[error("the authorities of {0} changed while the endpoint was asked")]
    Distrusted(TrustDomain),
    /// A replay, or a peer that was set back.
    #[error(
        "the bundle has sequence {offered}, older than {held}, which is held (Trust Domain and Bundle 4.1.1)"
    )]
    Older {
        /// What is held.
        held: u64,
        /// What came.
        offered: u64,
    },
    /// More than is kept of others.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// What is held can't be read.
    #[error(transparent)]
    Record(#[from] BundleRecordError),
    /// It is not on record, so it is not done.
    #[error("recording it")]
    Audit(#[from] AuditError),
    /// The log did not take it.
    #[error("keeping it")]
    Commit(#[from] CommitError),
}

impl Adopter {
    /// Takes a bundle that came from `source`, where the endpoint was believed by the authorities of `believed_by`, if it is newer than what is held.
    /// Whether it changed anything.
    pub(super) async fn adopt(
        &self,
        bundle: &Bundle,
        source: &Source,
        believed_by: Option<&Bundle>,
    ) -> Result<bool, AdoptError> {
        let trust_domain = bundle.trust_domain();
        let bytes = federated_to_bytes(bundle)?;
        // As it will be read again: the record leaves out what has no place in it, and that is no difference.
        let counted_from_zero = bundle.sequence() == Some(0);
        let bundle = bundle_from_bytes(&bytes)?;
        let mut tries = 0;
        loop {
            let view = self.registry.view();
            self.still(&view, trust_domain, source)?;
            self.still_believed(&view, believed_by)?;
            let name = trust_domain.as_str().as_bytes();
            let (held, expect) = match view.document(Tree::Bundles, name) {
                Some(document) => (
                    Some(bundle_from_bytes(&document.value)?),
                    Expect::At(document.version),
                ),
                None => (None, Expect::Absent),
            };
            let succession = match &held {
                None => Succession::Newer,
                // The record writes 0 as it writes no sequence: there it could not be told any more that this one is older.
                Some(held) if counted_from_zero && held.sequence().is_some() => Succession::Older,
                Some(held) => held.compare_fetched(&bundle),
            };
            let sequence = |bundle: &Bundle| bundle.sequence().unwrap_or(0);
            match succession {
                Succession::Same => return Ok(false),
                Succession::Older => {
                    return Err(AdoptError::Older {
                        held: held.as_ref().map_or(0, sequence),
                        offered: sequence(&bundle),
                    });
                }
                Succession::Newer => {}
                Succession::Uncounted => {
                    warn!(trust_domain = %trust_domain, sequence = sequence(&bundle), "a peer's bundle changed under the same sequence; taken");
                }
            }
            let event = Event::new(Actor::Daemon, Action::BundleSet, Outcome::Done)
                .object(Object::bundle(trust_domain))
                .fact("sequence", sequence(&bundle))
                .fact("x509_authorities", bundle.x509_authorities().len())
                .fact("jwt_authorities", bundle.jwt_authorities().len());
            self.audit.record(event.clone()).await?;
            let mut changes = vec![Change::put(Tree::Bundles, name, bytes.clone(), expect)];
            changes.extend(as_decided(
                &view,
                trust_domain,
                believed_by.map(Bundle::trust_domain),
            ));
            tries += 1;
            match self.registry.commit(changes).await {
                Ok(_) => break,
                Err(error) => {
                    self.audit.record(event.outcome(Outcome::failed(&error))).await?;
                    if tries >= TRIES || !matches!(error, CommitError::Conflict(_)) {
                        return Err(error.into());
                    }
                }
            }
        }
        self.bundles.refresh(&self.registry.view())?;
        if bundle.is_empty() {
            warn!(trust_domain = %trust_domain, "a peer's bundle is empty: nothing of its trust domain verifies any more");
        } else {
            info!(trust_domain = %trust_domain, sequence = bundle.sequence(), "a peer's bundle changed");
        }
        Ok(true)
    }

    /// Whether the relationship is still the one that the bundle was asked for under.
    fn still(&self, view: &View, trust_domain: &TrustDomain, source: &Source) -> Result<(), AdoptError> {
        let peer = self.peers.get(view, trust_domain);
        let counts = peer.is_some_and(|peer| {
            peer.relationship.revoked_at.is_none() && peer.relationship.source.as_ref() == Some(source)
        });
        counts.then_some(()).ok_or(AdoptError::Over)
    }

    /// Whether each authority that the endpoint may have been believed by still counts. Who has a leaked one may have kept us waiting until it was thrown out.
    pub(super) fn still_believed(&self, view: &View, by: Option<&Bundle>) -> Result<(), AdoptError> {
        let Some(by) = by else { return Ok(()) };
        // What counts is then at least as new as the view that the commit goes by.
        self.bundles.refresh(view)?;
        let set = self.bundles.set();
        let name = by.trust_domain();
        let counting = set.get(name).map(|held| held.x509_authorities());
        let counting = counting.unwrap_or_default();
        let gone = by
            .x509_authorities()
            .iter()
            .any(|authority| !counting.contains(authority));
        match gone {
            true => Err(AdoptError::Distrusted(name.clone())),
            false => Ok(()),
        }
    }
}

/// What makes a commit fail when something changed after `view` by which the bundle was believed: the relationship with its trust domain, and where the endpoint is of a
/// third one, the relationship with that and its bundle. It changes nothing of them.
fn as_decided(view: &View, trust_domain: &TrustDomain, believed_by: Option<&TrustDomain>) -> Vec<Change> {
    let mut changes = vec![as_it_stands(view, Tree::Relationships, trust_domain)];
    // The bundle of the trust domain itself is the one that is put.
    if let Some(third) = believed_by.filter(|third| *third != trust_domain) {
        changes.push(as_it_stands(view, Tree::Relationships, third));
        changes.push(as_it_stands(view, Tree::Bundles, third));
    }
    changes
}

fn as_it_stands(view: &View, tree: Tree, trust_domain: &TrustDomain) -> Change {
    let name = trust_domain.as_str().as_bytes();
    match view.document(tree, name) {
        Some(held) => Change::put(tree, name, held.value.to_vec(), Expect::At(held.version)),
        None => Change::delete(tree, name, Expect::Absent),
    }
}

#[cfg(test)]
mod tests;
