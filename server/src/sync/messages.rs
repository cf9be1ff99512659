//! What a node is told, cut into messages of a bounded size.

use std::{collections::HashMap, sync::Arc};

use muster_identity::{EntryId, Position};
use muster_proto::{
    convert,
    node::{self, sync_response},
};
use prost::Message as _;

use crate::registry::{Delta, Registered};

/// A message is closed when it has grown past this: well below the 1 MiB that the contract promises, whatever the last
/// entry adds.
const FULL: usize = 512 * 1024;

pub(super) fn message(message: sync_response::Message) -> node::SyncResponse {
    node::SyncResponse {
        message: Some(message),
    }
}

/// The step to `position`, in as many messages as it takes; at least one.
pub(super) fn update(position: Position, delta: &Delta) -> Vec<node::SyncResponse> {
    let empty = || node::Update {
        position: Some(convert::position_to_wire(&position)),
        ..node::Update::default()
    };
    let mut updates = vec![];
    let (mut open, mut size) = (empty(), 0);
    for upsert in &delta.upserts {
        let entry = node_entry(upsert);
        size += entry.encoded_len() + 8;
        open.upserts.push(entry);
        if size > FULL {
            updates.push(std::mem::replace(&mut open, empty()));
            size = 0;
        }
    }
    for removal in &delta.removals {
        size += removal.as_str().len() + 4;
        open.removals.push(removal.to_string());
        if size > FULL {
            updates.push(std::mem::replace(&mut open, empty()));
            size = 0;
        }
    }
    open.last = true;
    updates.push(open);
    updates
        .into_iter()
        .map(|update| message(sync_response::Message::Update(update)))
        .collect()
}

/// What a node that holds `have` lacks of `set`.
pub(super) fn compare(mut have: HashMap<EntryId, u64>, set: Vec<Arc<Registered>>) -> Delta {
    let mut delta = Delta::default();
    for registered in set {
        if have.remove(&registered.entry.id) != Some(registered.version.0) {
            delta.upserts.push(registered);
        }
    }
    delta.removals.extend(have.into_keys());
    delta.removals.sort_unstable();
    delta
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
