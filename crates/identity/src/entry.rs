use std::sync::Arc;

use crate::{Attributes, DnsName, EntryId, Hint, Lifetime, SelectorSet, SpiffeId, TrustDomain, UnixTime};

/// What an operator says of an entry. [`EntrySpec::check`] is the only way from it to an [`Entry`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EntrySpec {
    /// The identity that is given.
    pub spiffe_id: SpiffeId,
    /// Through whom it is given: a node, another entry's ID, or the server's ID for a node alias.
    pub parent_id: SpiffeId,
    /// What a process (for an alias: a node) must be to get it: all of these.
    pub selectors: SelectorSet,
    /// Lifetime of X.509-SVIDs; none: the server's default.
    pub x509_svid_ttl: Option<Lifetime>,
    /// Lifetime of JWT-SVIDs; none: the server's default.
    pub jwt_svid_ttl: Option<Lifetime>,
    /// Trust domains whose bundles the workload gets beside its own.
    pub federates_with: Arc<[TrustDomain]>,
    /// DNS names in X.509-SVIDs, in this order; the first is the common name too.
    pub dns_names: Arc<[DnsName]>,
    /// Whether the identity administers the server.
    pub admin: bool,
    /// Whether the identity may ask for an authority of its own.
    pub downstream: bool,
    /// Whether SVIDs go to a store instead of to a workload.
    pub store_svid: bool,
    /// When the entry ends by itself.
    pub expires_at: Option<UnixTime>,
    /// What the workload is told about this identity.
    pub hint: Option<Hint>,
    /// Rarer wishes.
    pub attributes: Attributes,
}

impl EntrySpec {
    /// Checks what single fields can't say, for a server of `trust_domain`.
    pub fn check(&self, trust_domain: &TrustDomain) -> Result<(), EntryError> {
        if !self.spiffe_id.is_member_of(trust_domain) {
            return Err(EntryError::ForeignId {
                id: self.spiffe_id.clone(),
                trust_domain: trust_domain.clone(),
            });
        }
        if self.spiffe_id.is_trust_domain_id() {
            return Err(EntryError::IdWithoutPath {
                id: self.spiffe_id.clone(),
            });
        }
        if self.spiffe_id.path().is_reserved() {
            return Err(EntryError::ReservedId {
                id: self.spiffe_id.clone(),
            });
        }
        if !self.parent_id.is_member_of(trust_domain) {
            return Err(EntryError::ForeignParent {
                id: self.parent_id.clone(),
                trust_domain: trust_domain.clone(),
            });
        }
        if self.parent_id.is_trust_domain_id() {
            return Err(EntryError::ParentWithoutPath {
                id: self.parent_id.clone(),
            });
        }
        if self.selectors.is_empty() {
            return Err(EntryError::NoSelectors);
        }
        if self.store_svid {
            let mut kinds = self.selectors.iter().map(|selector| selector.kind());
            let first = kinds.next();
            if kinds.any(|kind| Some(kind) != first) {
                return Err(EntryError::StoreSelectors);
            }
            if self.attributes.disable_x509_svid_prefetch {
                return Err(EntryError::StorePrefetch);
            }
        }
        Ok(())
    }

    /// Whether this names nodes for other entries instead of giving an identity: its parent is the server.
    pub fn is_node_alias(&self) -> bool {
        self.parent_id.path().as_str() == "/spire/server"
    }

    /// Whether the two would give one identity to the same callers through the same parent: SPIRE's «similar entry».
    pub fn is_similar_to(&self, other: &EntrySpec) -> bool {
        self.spiffe_id == other.spiffe_id
            && self.parent_id == other.parent_id
            && self.selectors == other.selectors
    }
}

/// A registration: who gets which identity, as the server holds it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// Its name.
    pub id: EntryId,
    /// What the operator said; checked.
    pub spec: EntrySpec,
    /// 0 at creation, one more at each update (SPIRE's `revision_number`).
    pub revision_number: i64,
    /// When it was created.
    pub created_at: UnixTime,
}

/// What is wrong with an entry. Each text begins with the field's name.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum EntryError {
    /// The SPIFFE ID belongs to another trust domain.
    #[error("spiffe_id: {id} is not a member of trust domain {trust_domain}")]
    ForeignId {
        /// The ID.
        id: SpiffeId,
        /// The server's trust domain.
        trust_domain: TrustDomain,
    },
    /// The SPIFFE ID has no path.
    #[error("spiffe_id: {id} has no path; a workload's ID needs one")]
    IdWithoutPath {
        /// The ID.
        id: SpiffeId,
    },
    /// The SPIFFE ID lies in the servers' and nodes' own namespace.
    #[error("spiffe_id: {id} is in the reserved namespace /spire")]
    ReservedId {
        /// The ID.
        id: SpiffeId,
    },
    /// The parent belongs to another trust domain.
    #[error("parent_id: {id} is not a member of trust domain {trust_domain}")]
    ForeignParent {
        /// The ID.
        id: SpiffeId,
        /// The server's trust domain.
        trust_domain: TrustDomain,
    },
    /// The parent has no path.
    #[error("parent_id: {id} has no path; name a node, a workload or spiffe://<trust domain>/spire/server")]
    ParentWithoutPath {
        /// The ID.
        id: SpiffeId,
    },
    /// Nothing is asked of the caller.
    #[error("selectors: none given; an entry needs at least one, as unix:uid:1000")]
    NoSelectors,
    /// A stored SVID's selectors name more than one store.
    #[error("selectors: store_svid needs all selectors to be of one type")]
    StoreSelectors,
    /// A stored SVID that is not made ahead of time would never be stored.
    #[error("additional_attributes: store_svid and disable_x509_svid_prefetch exclude each other")]
    StorePrefetch,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(id: &str, parent: &str, selectors: &[&str]) -> EntrySpec {
        EntrySpec {
            spiffe_id: id.parse().unwrap(),
            parent_id: parent.parse().unwrap(),
            selectors: selectors.iter().map(|s| s.parse().unwrap()).collect(),
            x509_svid_ttl: None,
            jwt_svid_ttl: None,
            federates_with: [].into(),
            dns_names: [].into(),
            admin: false,
            downstream: false,
            store_svid: false,
            expires_at: None,
            hint: None,
            attributes: Attributes::default(),
        }
    }

    #[test]
    fn an_entry_is_refused_by_the_field_that_is_wrong() {
        let td: TrustDomain = "example.org".parse().unwrap();
        let node = "spiffe://example.org/spire/agent/x";
        assert_eq!(
            spec("spiffe://example.org/a", node, &["unix:uid:0"]).check(&td),
            Ok(())
        );
        for (wrong, field) in [
            (spec("spiffe://other.org/a", node, &["unix:uid:0"]), "spiffe_id:"),
            (spec("spiffe://example.org", node, &["unix:uid:0"]), "spiffe_id:"),
            (
                spec("spiffe://example.org/spire/server", node, &["unix:uid:0"]),
                "spiffe_id:",
            ),
            (
                spec("spiffe://example.org/a", "spiffe://other.org/x", &["unix:uid:0"]),
                "parent_id:",
            ),
            (
                spec("spiffe://example.org/a", "spiffe://example.org", &["unix:uid:0"]),
                "parent_id:",
            ),
            (spec("spiffe://example.org/a", node, &[]), "selectors:"),
        ] {
            assert!(wrong.check(&td).unwrap_err().to_string().starts_with(field));
        }
        let mixed = EntrySpec {
            store_svid: true,
            ..spec("spiffe://example.org/a", node, &["a:b", "c:d"])
        };
        assert_eq!(mixed.check(&td), Err(EntryError::StoreSelectors));
    }
}
