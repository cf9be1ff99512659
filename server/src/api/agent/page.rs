//! Nodes as lists show them, page by page in the order of their IDs.

use std::sync::Arc;

use muster_identity::{SpiffeId, UnixTime};
use muster_proto::convert::{self, NodeFilter};
use muster_proto::spire::types::{self, AgentMask};

use crate::api::Refusal;
use crate::registry::{NodeRecord, View};

/// The most nodes on one page, whatever is asked: the next one is a call away.
const MOST: usize = 1_000;

/// Which part of a list is asked for.
pub(super) struct Page {
    /// None: all of it.
    size: Option<usize>,
    after: Option<SpiffeId>,
}

impl Page {
    pub(super) fn new(size: i32, token: &str) -> Result<Self, Refusal> {
        let size = match size {
            ..=-1 => return Err(Refusal::invalid(format!("page_size: {size} is negative"))),
            0 => None,
            1.. => Some(usize::try_from(size).unwrap_or(MOST).min(MOST)),
        };
        let after = match token {
            "" => None,
            token => Some(token.parse().map_err(|_| {
                Refusal::invalid("page_token: could not parse token; send what the page before gave")
            })?),
        };
        Ok(Self { size, after })
    }

    /// The nodes of the page, and the token of the next: with every page that is not empty, as SPIRE has it.
    pub(super) fn of(&self, view: &View, filter: &NodeFilter) -> (Vec<Arc<NodeRecord>>, String) {
        let found = matching(view, filter, self.after.as_ref()).cloned();
        let Some(size) = self.size else {
            return (found.collect(), String::new());
        };
        let page: Vec<_> = found.take(size).collect();
        let token = page.last().map(|last| last.id.to_string()).unwrap_or_default();
        (page, token)
    }
}

/// The nodes behind `after` that the filter means.
pub(super) fn matching<'a>(
    view: &'a View,
    filter: &'a NodeFilter,
    after: Option<&SpiffeId>,
) -> impl Iterator<Item = &'a Arc<NodeRecord>> {
    view.nodes_after(after).filter(|node| {
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
