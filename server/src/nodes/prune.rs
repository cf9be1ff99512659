//! Forgetting nodes that are long gone. A banned one is not gone: its record is what keeps it out.

use std::sync::Arc;
use std::time::Duration;

use muster_audit::{Action, Actor, Audit, Event, Object, Outcome};
use muster_identity::UnixTime;
use muster_runtime::{Clock, Stop};

use super::evict;
use crate::registry::sweep::{AllEnded, Ended, Sweeper};
use crate::registry::{NodeRecord, Registry, View};

/// How often they are looked for: each look walks over all nodes.
const EVERY: Duration = Duration::from_secs(600);

/// Which nodes are forgotten.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pruning {
    /// Those whose certificate ended so long ago; none: nobody is forgotten.
    pub expired_for: Option<Duration>,
    /// Also those that can't attest again by themselves: they need a new token then.
    pub non_reattestable: bool,
}

/// Forgets nodes until told to stop.
pub async fn prune(registry: Registry, audit: Audit, clock: Arc<dyn Clock>, pruning: Pruning, stop: Stop) {
    let Some(expired_for) = pruning.expired_for else {
        return;
    };
    let sweeper = Sweeper {
        registry,
        audit,
        clock,
        every: EVERY,
        failed: "nodes long gone stay for another while",
    };
    sweeper
        .run(
            |view, now| gone(view, now.saturating_sub(expired_for), pruning),
            &stop,
        )
        .await;
}

/// All whose certificates ended before `before`.
fn gone(view: &View, before: UnixTime, pruning: Pruning) -> AllEnded<'_> {
    let nodes = view.nodes().filter(move |node| is_gone(node, before, pruning));
    Box::new(nodes.map(move |node| planned(view, node)))
}

/// Whether the last certificate that it was given ended before `before`.
fn is_gone(node: &NodeRecord, before: UnixTime, pruning: Pruning) -> bool {
    let certificates = [&node.current, &node.pending].into_iter().flatten();
    let ends = certificates.map(|svid| svid.not_after).max();
    !node.is_banned()
        && (node.can_reattest || pruning.non_reattestable)
        && ends.is_some_and(|end| end < before)
}

fn planned(view: &View, node: &NodeRecord) -> Ended {
    tracing::info!(node = %node.id, "a node long gone is forgotten");
    let event = Event::new(Actor::Daemon, Action::NodePurge, Outcome::Done)
        .object(Object::node(&node.id))
        .fact("attestation_type", &node.attestation_type);
    (event, evict(view, node))
}

#[cfg(test)]
mod tests {
    use muster_identity::{Revision, SelectorSet};
    use muster_pki::{KeyAlgorithm, LocalKey};

    use super::*;
    use crate::registry::{NodeKey, NodeSvid};

    const NOW: UnixTime = UnixTime::EPOCH;

    fn node(can_reattest: bool, ends: &[i64]) -> NodeRecord {
        let key = LocalKey::generate(KeyAlgorithm::EcP256).unwrap();
        let key = NodeKey::of(muster_pki::Signer::public_key(&key));
        let mut certificates = ends.iter().map(|end| NodeSvid {
            serial: end.to_string(),
            not_after: UnixTime::from_secs(*end),
            key,
        });
        NodeRecord {
            id: "spiffe://example.org/spire/agent/x509pop/a".parse().unwrap(),
            attestation_type: "x509pop".into(),
            selectors: SelectorSet::default(),
            current: certificates.next(),
            pending: certificates.next(),
            can_reattest,
            agent_version: String::new(),
            attested_at: NOW,
            version: Revision(1),
        }
    }

    #[test]
    fn a_node_is_gone_when_no_certificate_of_its_own_can_bring_it_back() {
        let before = UnixTime::from_secs(100);
        for (node, careful, thorough) in [
            (node(true, &[99]), true, true),
            (node(true, &[100]), false, false),
            (node(false, &[99]), false, true),
            // It went away with a renewed certificate that it never used.
            (node(true, &[99, 200]), false, false),
            // Banned.
            (node(true, &[]), false, false),
        ] {
            for (non_reattestable, gone) in [(false, careful), (true, thorough)] {
                let pruning = Pruning {
                    expired_for: Some(Duration::ZERO),
                    non_reattestable,
                };
                assert_eq!(is_gone(&node, before, pruning), gone, "{node:?}");
            }
        }
    }
}
