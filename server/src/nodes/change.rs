//! What administrators and nodes do to a node's record. Each change rests on the record as it was read.

use crate::registry::{Change, Expect, NodeRecord, NodeSvid, Tree, View, entries, node_bytes};

/// Puts a renewed certificate beside the one that counts: its first use makes it that.
pub fn renew(node: &NodeRecord, renewed: NodeSvid) -> Vec<Change> {
    vec![put(&NodeRecord {
        pending: Some(renewed),
        ..node.clone()
    })]
}

/// Notes what the agent says of its version.
pub fn state_version(node: &NodeRecord, agent_version: String) -> Vec<Change> {
    vec![put(&NodeRecord {
        agent_version,
        ..node.clone()
    })]
}

/// Takes both certificates away and keeps the record: the node is refused until it is evicted.
pub fn ban(node: &NodeRecord) -> Vec<Change> {
    vec![put(&NodeRecord {
        current: None,
        pending: None,
        ..node.clone()
    })]
}

/// Forgets the node, and the alias that came with its join token. It may attest anew, also when it was banned.
pub fn evict(view: &View, node: &NodeRecord) -> Vec<Change> {
    let mut changes = vec![Change::delete(
        Tree::Nodes,
        node.id.to_string(),
        Expect::At(node.version),
    )];
    let own = format!("spiffe_id:{}", node.id);
    let is_alias = |selectors: &muster_identity::SelectorSet| {
        selectors.len() == 1 && selectors.iter().all(|selector| selector.as_str() == own)
    };
    for child in view
        .children_of(&node.id)
        .filter(|child| is_alias(&child.entry.spec.selectors))
    {
        changes.extend(entries::delete(child));
    }
    changes
}

fn put(node: &NodeRecord) -> Change {
    Change::put(
        Tree::Nodes,
        node.id.to_string(),
        node_bytes(node),
        Expect::At(node.version),
    )
}
