//! Nodes as lists show them, page by page in the order of their IDs.

use std::sync::Arc;

use muster_identity::{SpiffeId, UnixTime, Verb};
use muster_proto::convert::{self, NodeFilter};
use muster_proto::spire::types::{self, AgentMask};

use crate::api::Refusal;
use crate::api::pages::Size;
use crate::api::scope::Scope;
use crate::registry::{NodeRecord, View};

/// Which part of a list is asked for.
pub(super) struct Page {
    size: Size,
    after: Option<SpiffeId>,
}

impl Page {
    pub(super) fn new(size: i32, token: &str) -> Result<Self, Refusal> {
        let size = Size::asked(size)?;
        let after = match token {
            "" => None,
            token => Some(token.parse().map_err(|_| {
                Refusal::invalid("page_token: could not parse token; send what the page before gave")
            })?),
        };
        Ok(Self { size, after })
    }

    /// The nodes of the page that the caller may see, with the fields that `mask` names, and the token of the next.
    pub(super) fn of(
        &self,
        view: &View,
        scope: &Scope,
        filter: &NodeFilter,
        mask: Option<&AgentMask>,
    ) -> (Vec<types::Agent>, String) {
        let found = matching(view, scope, filter, self.after.as_ref());
        self.size
            .fill(found, |node| to_wire(node, mask), |node| node.id.to_string())
    }
}

/// The nodes behind `after` that the caller may see and the filter means.
pub(super) fn matching<'a>(
    view: &'a View,
    scope: &'a Scope,
    filter: &'a NodeFilter,
    after: Option<&SpiffeId>,
) -> impl Iterator<Item = &'a Arc<NodeRecord>> {
    view.nodes_after(after).filter(|node| {
        if !scope.reaches_node(Verb::NodeRead, &node.id) {
            return false;
        }
        let expires_at = node.not_after().unwrap_or(UnixTime::EPOCH);
        filter.matches(
            &node.attestation_type,
            &node.selectors,
            node.is_banned(),
            node.can_reattest,
            expires_at,
        )
    })
}

/// The node as SPIRE's message, with the fields that `mask` names; without a mask, all. The id is always there.
pub(super) fn to_wire(node: &NodeRecord, mask: Option<&AgentMask>) -> types::Agent {
    let all = AgentMask {
        attestation_type: true,
        x509svid_serial_number: true,
        x509svid_expires_at: true,
        selectors: true,
        banned: true,
        can_reattest: true,
        agent_version: true,
    };
    let mask = mask.unwrap_or(&all);
    let mut wire = types::Agent {
        id: Some((&node.id).into()),
        ..types::Agent::default()
    };
    if mask.attestation_type {
        wire.attestation_type = node.attestation_type.clone();
    }
    if mask.x509svid_serial_number {
        wire.x509svid_serial_number = node
            .current
            .as_ref()
            .map(|svid| svid.serial.clone())
            .unwrap_or_default();
    }
    if mask.x509svid_expires_at {
        wire.x509svid_expires_at = node.not_after().map_or(0, UnixTime::as_secs);
    }
    if mask.selectors {
        wire.selectors = convert::selectors_to_wire(&node.selectors);
    }
    wire.banned = mask.banned && node.is_banned();
    wire.can_reattest = mask.can_reattest && node.can_reattest;
    if mask.agent_version {
        wire.agent_version = node.agent_version.clone();
    }
    wire
}
