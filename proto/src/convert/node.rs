//! Our own contract between node agent and server.

use std::sync::Arc;

use muster_identity::{
    Attributes, EntryId, Hint, Position, Revision, SelectorSet, SpiffeId, StoreId, TrustDomain, UnixTime,
};

use super::{
    FieldError,
    entry::{entry_id, hint, moment, trust_domains},
    selectors::{selector_set, selectors_to_wire},
};
use crate::node;

/// What a node knows of an entry. Lifetimes, DNS names and the parent stay on the server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NodeEntry {
    /// Its name.
    pub id: EntryId,
    /// Revision at which anything here last changed.
    pub version: u64,
    /// Revision at which anything that a certificate shows last changed.
    pub x509_version: u64,
    /// The identity that it gives.
    pub spiffe_id: SpiffeId,
    /// What a process must be to get it.
    pub selectors: SelectorSet,
    /// Whose bundles come with it.
    pub federates_with: Arc<[TrustDomain]>,
    /// What the workload is told about this identity.
    pub hint: Option<Hint>,
    /// Whether the identity administers the server.
    pub admin: bool,
    /// Whether the identity may ask for an authority of its own.
    pub downstream: bool,
    /// Whether SVIDs go to a store instead of to a workload.
    pub store_svid: bool,
    /// When it was created.
    pub created_at: UnixTime,
    /// When it ends by itself.
    pub expires_at: Option<UnixTime>,
    /// Rarer wishes.
    pub attributes: Attributes,
}

impl TryFrom<&node::NodeEntry> for NodeEntry {
    type Error = FieldError;

    fn try_from(wire: &node::NodeEntry) -> Result<Self, FieldError> {
        let selectors = selector_set("selectors", &wire.selectors)?;
        if selectors.is_empty() {
            // It would match every process on the host.
            return Err(FieldError::missing("selectors"));
        }
        Ok(Self {
            id: entry_id("id", &wire.id)?,
            version: wire.version,
            x509_version: wire.x509_version,
            spiffe_id: wire
                .spiffe_id
                .parse()
                .map_err(|error| FieldError::new("spiffe_id", error))?,
            selectors,
            federates_with: trust_domains("federates_with", &wire.federates_with)?,
            hint: hint("hint", &wire.hint)?,
            admin: wire.admin,
            downstream: wire.downstream,
            store_svid: wire.store_svid,
            created_at: UnixTime::from_secs(wire.created_at),
            expires_at: moment("expires_at", wire.expires_at)?,
            attributes: Attributes {
                disable_x509_svid_prefetch: wire.disable_x509_svid_prefetch,
                jwt_svid_include_jti: wire.jwt_svid_include_jti,
            },
        })
    }
}

impl From<&NodeEntry> for node::NodeEntry {
    fn from(entry: &NodeEntry) -> Self {
        Self {
            id: entry.id.to_string(),
            version: entry.version,
            spiffe_id: entry.spiffe_id.to_string(),
            selectors: selectors_to_wire(&entry.selectors),
            federates_with: entry.federates_with.iter().map(TrustDomain::to_string).collect(),
            hint: entry.hint.as_ref().map(Hint::to_string).unwrap_or_default(),
            admin: entry.admin,
            downstream: entry.downstream,
            store_svid: entry.store_svid,
            created_at: entry.created_at.as_secs(),
            expires_at: entry.expires_at.map_or(0, UnixTime::as_secs),
            disable_x509_svid_prefetch: entry.attributes.disable_x509_svid_prefetch,
            jwt_svid_include_jti: entry.attributes.jwt_svid_include_jti,
            x509_version: entry.x509_version,
        }
    }
}

/// Reads a position.
///
/// # Errors
/// When it is not there or its store id is not 16 bytes.
pub fn position(field: &'static str, wire: Option<&node::Position>) -> Result<Position, FieldError> {
    let wire = wire.ok_or_else(|| FieldError::missing(field))?;
    let store = StoreId::try_from(wire.store.as_slice()).map_err(|error| FieldError::new(field, error))?;
    Ok(Position {
        store,
        revision: Revision(wire.revision),
    })
}

/// Writes a position.
pub fn position_to_wire(position: &Position) -> node::Position {
    node::Position {
        store: position.store.as_bytes().to_vec(),
        revision: position.revision.0,
    }
}

/// Reads what a node says it holds: an entry and its version.
///
/// # Errors
/// When the name is none.
pub fn entry_version(wire: &node::EntryVersion) -> Result<(EntryId, u64), FieldError> {
    Ok((entry_id("id", &wire.id)?, wire.version))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wire() -> node::NodeEntry {
        node::NodeEntry {
            id: "one".into(),
            spiffe_id: "spiffe://example.org/web".into(),
            selectors: vec![crate::spire::types::Selector {
                r#type: "unix".into(),
                value: "uid:0".into(),
            }],
            ..node::NodeEntry::default()
        }
    }

    #[test]
    fn an_entry_that_asks_for_nothing_is_refused() {
        let entry = node::NodeEntry {
            selectors: Vec::new(),
            ..wire()
        };
        assert_eq!(NodeEntry::try_from(&entry).unwrap_err().field(), "selectors");
    }

    #[test]
    fn a_position_needs_a_whole_store_id() {
        let short = node::Position {
            store: vec![1; 15],
            revision: 1,
        };
        assert_eq!(
            position("position", Some(&short)).unwrap_err().field(),
            "position"
        );
        assert!(position("position", None).is_err());
    }

    proptest! {
        #[test]
        fn positions_survive_the_wire(store in any::<[u8; 16]>(), revision in any::<u64>()) {
            let held = Position { store: StoreId::from_bytes(store), revision: Revision(revision) };
            prop_assert_eq!(position("position", Some(&position_to_wire(&held))), Ok(held));
        }

        #[test]
        fn node_entries_survive_the_wire(
            version in any::<u64>(), x509_version in any::<u64>(), created_at in 0..4_000_000_000i64,
            expires_at in 0..4_000_000_000i64, hint in "[a-z]{0,8}", flags in any::<[bool; 5]>(),
            federates_with in prop::collection::btree_set("[a-z]{1,6}", 0..4),
        ) {
            let sent = node::NodeEntry {
                version, x509_version, created_at, expires_at, hint,
                admin: flags[0], downstream: flags[1], store_svid: flags[2],
                disable_x509_svid_prefetch: flags[3], jwt_svid_include_jti: flags[4],
                federates_with: federates_with.into_iter().collect(),
                ..wire()
            };
            let read = NodeEntry::try_from(&sent).unwrap();
            prop_assert_eq!(node::NodeEntry::from(&read), sent);
        }
    }
}
