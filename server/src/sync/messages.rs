//! What a node is told, cut into messages of a bounded size.

use std::sync::Arc;

use muster_identity::{EntryId, Position};
use muster_proto::{
    convert,
    node::{self, sync_response},
};
use prost::Message as _;

use super::federated::News;
use crate::registry::{Delta, Registered};

/// A message is closed when it has grown past this: well below the 1 MiB that the contract promises, whatever the last
/// entry adds.
pub(super) const FULL: usize = 512 * 1024;

pub(super) fn message(message: sync_response::Message) -> node::SyncResponse {
    node::SyncResponse {
        message: Some(message),
    }
}

/// The step to `position`, in as many messages as it takes; at least one. Made one by one: a node is told the next when it took the one before.
pub(super) fn update(position: Position, delta: &Delta) -> impl Iterator<Item = node::SyncResponse> {
    let (mut upserts, mut removals) = (delta.upserts.iter(), delta.removals.iter());
    let mut whole = false;
    std::iter::from_fn(move || {
        if whole {
            return None;
        }
        let (mut update, mut size) = (part(position), 0);
        while size < FULL && !whole {
            if let Some(upsert) = upserts.next() {
                let entry = node_entry(upsert);
                size += entry.encoded_len() + 8;
                update.upserts.push(entry);
            } else if let Some(removal) = removals.next() {
                size += removal.as_str().len() + 4;
                update.removals.push(removal.to_string());
            } else {
                whole = true;
            }
        }
        update.last = whole;
        Some(message(sync_response::Message::Update(update)))
    })
}

/// A part of a step: what a node must drop, told ahead of the rest.
pub(super) fn removals(position: Position, removals: &[EntryId]) -> node::SyncResponse {
    message(sync_response::Message::Update(node::Update {
        removals: removals.iter().map(ToString::to_string).collect(),
        ..part(position)
    }))
}

/// Whether a list of bundles is all that concerns the node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Told {
    /// What changed.
    Changes,
    /// All there is; at least one message.
    Whole,
}

/// What is new about bundles, in messages of a bounded size. No bundle is so large that it would not fit into one.
pub(super) fn bundles(news: &News, told: Told) -> Vec<node::SyncResponse> {
    let (mut messages, mut size) = (vec![node::Bundles::default()], 0);
    for (bundle, scope) in &news.bundles {
        let wire = convert::bundle_to_wire(bundle, None);
        let bytes = wire.encoded_len();
        if size > 0 && size + bytes > FULL {
            messages.push(node::Bundles::default());
            size = 0;
        }
        size += bytes;
        let Some(message) = messages.last_mut() else {
            continue;
        };
        if !scope.prefixes().is_empty() {
            message.scopes.push(node::Scope {
                trust_domain: wire.trust_domain.clone(),
                path_prefixes: scope.prefixes().iter().map(ToString::to_string).collect(),
            });
        }
        message.bundles.push(wire);
    }
    // What was taken away comes first.
    if let Some(first) = messages.first_mut() {
        first.removed = news.removed.iter().map(ToString::to_string).collect();
    }
    if let Some(last) = messages.last_mut() {
        last.whole = told == Told::Whole;
    }
    let messages = messages.into_iter().map(sync_response::Message::Bundles);
    messages.map(message).collect()
}

fn part(position: Position) -> node::Update {
    node::Update {
        position: Some(convert::position_to_wire(&position)),
        ..node::Update::default()
    }
}

fn node_entry(registered: &Registered) -> node::NodeEntry {
    let (entry, spec) = (&registered.entry, &registered.entry.spec);
    let entry = convert::NodeEntry {
        id: entry.id.clone(),
        version: registered.version.0,
        x509_version: registered.x509_version.0,
        spiffe_id: spec.spiffe_id.clone(),
        selectors: spec.selectors.clone(),
        federates_with: Arc::clone(&spec.federates_with),
        hint: spec.hint.clone(),
        admin: spec.admin,
        downstream: spec.downstream,
        store_svid: spec.store_svid,
        created_at: entry.created_at,
        expires_at: spec.expires_at,
        attributes: spec.attributes,
    };
    (&entry).into()
}
