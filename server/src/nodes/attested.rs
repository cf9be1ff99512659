//! Nodes that a verifier took: whether they come in, and as what.

use muster_identity::{Revision, SpiffeId, UnixTime};
use muster_plugin_api::{AttestedNode, Reattestation};

use super::{Join, JoinError};
use crate::registry::{NodeRecord, View};

/// What becomes of the node `id`, which proved itself by `kind` as `node` says.
///
/// A node that is known is attested again: its selectors are replaced, and with the new certificate every earlier one ends. Not when its proof counts
/// once, nor when it is known by another kind of proof: then somebody else may be meant, and an operator decides by evicting it.
///
/// # Errors
/// [`JoinError`] says why it does not come in.
pub fn attested(
    view: &View,
    kind: &str,
    id: &SpiffeId,
    node: &AttestedNode,
    now: UnixTime,
) -> Result<Join, JoinError> {
    let earlier = view.node(id);
    if let Some(earlier) = earlier {
        if earlier.is_banned() {
            return Err(JoinError::Banned);
        }
        if earlier.attestation_type != kind {
            return Err(JoinError::OtherKind(earlier.attestation_type.clone()));
        }
        if node.reattestation() == Reattestation::Once {
            return Err(JoinError::Used);
        }
    }
    let record = NodeRecord {
        id: id.clone(),
        attestation_type: kind.to_owned(),
        selectors: node.selectors().clone(),
        current: None,
        pending: None,
        can_reattest: node.reattestation() == Reattestation::Possible,
        agent_version: earlier
            .map(|earlier| earlier.agent_version.clone())
            .unwrap_or_default(),
        attested_at: now,
        version: Revision(0),
    };
    Ok(Join::Attested {
        node: Box::new(record),
        earlier: earlier.map(|earlier| earlier.version),
    })
}

#[cfg(test)]
mod tests {
    use muster_identity::Selector;
    use muster_plugin_api::NodePath;

    use super::super::tests::{after, key, start, svid};
    use super::*;
    use crate::nodes::{ban, evict, rejoin};
    use crate::registry::Registry;

    const NOW: UnixTime = UnixTime::EPOCH;

    fn node(values: &[&str], reattestation: Reattestation) -> AttestedNode {
        let path = NodePath::parse("/fake/one").unwrap();
        AttestedNode::new(
            "fake",
            path,
            values.iter().map(|value| (*value).to_owned()),
            reattestation,
        )
    }

    fn id() -> SpiffeId {
        "spiffe://example.org/spire/agent/fake/one".parse().unwrap()
    }

    async fn let_in(
        registry: &Registry,
        kind: &str,
        node: &AttestedNode,
        serial: u64,
    ) -> Result<(), JoinError> {
        let join = attested(&registry.view(), kind, &id(), node, NOW)?;
        registry
            .commit(join.changes(svid(serial, key()), NOW))
            .await
            .unwrap();
        Ok(())
    }

    #[tokio::test]
    async fn a_node_that_attests_again_is_as_its_last_attestation_says() {
        let registry = start();
        let first = node(&["a:1", "b:2"], Reattestation::Possible);
        let_in(&registry, "fake", &first, 1).await.unwrap();
        let record = registry.view().node(&id()).unwrap().clone();
        registry
            .commit(crate::nodes::renew(&record, svid(2, key())))
            .await
            .unwrap();
        let_in(
            &registry,
            "fake",
            &node(&["a:1", "c:3"], Reattestation::Possible),
            3,
        )
        .await
        .unwrap();
        let view = registry.view();
        let record = view.node(&id()).unwrap();
        let selectors: Vec<_> = record.selectors.iter().map(Selector::as_str).collect();
        assert_eq!(selectors, ["fake:a:1", "fake:c:3"]);
        assert_eq!(record.current.as_ref().unwrap().serial, "3");
        assert!(record.pending.is_none() && record.can_reattest);
        assert_eq!(view.node_count(), 1);
    }

    #[tokio::test]
    async fn a_banned_node_a_used_proof_and_another_kind_stay_outside_until_evicted() {
        let registry = start();
        let once = node(&[], Reattestation::Once);
        let_in(&registry, "fake", &once, 1).await.unwrap();
        assert_eq!(let_in(&registry, "fake", &once, 2).await, Err(JoinError::Used));
        let again = node(&[], Reattestation::Possible);
        let other = let_in(&registry, "other", &again, 2).await;
        assert_eq!(other, Err(JoinError::OtherKind("fake".to_owned())));
        let record = registry.view().node(&id()).unwrap().clone();
        registry.commit(ban(&record)).await.unwrap();
        assert_eq!(let_in(&registry, "fake", &again, 2).await, Err(JoinError::Banned));
        let view = registry.view();
        registry
            .commit(evict(&view, view.node(&id()).unwrap()))
            .await
            .unwrap();
        let_in(&registry, "other", &again, 2).await.unwrap();
    }

    #[tokio::test]
    async fn the_last_key_is_no_way_round_a_proof_that_lasts() {
        let registry = start();
        let own = key();
        let join = attested(
            &registry.view(),
            "fake",
            &id(),
            &node(&[], Reattestation::Possible),
            NOW,
        )
        .unwrap();
        assert!(join.can_reattest());
        registry.commit(join.changes(svid(1, own), NOW)).await.unwrap();
        let back = rejoin(&registry.view(), &id(), own, after(60));
        assert!(matches!(back, Err(JoinError::MustReattest(kind)) if kind == "fake"));
    }
}
