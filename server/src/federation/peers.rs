//! The trust domains that we federate with, by configuration and by record.

use std::collections::BTreeMap;
use std::sync::Arc;

use muster_identity::{TrustDomain, UnixTime};
use muster_pki::bundle::Scope;
use tracing::error;

use super::Relationship;
use crate::registry::View;
use crate::store::Tree;

/// The most trust domains with a relationship: each has a connection, a place in memory and a line in the metrics.
pub const MOST_PEERS: usize = 1_000;

/// The relationships of the configuration. Where one is there, its source and, unless a record narrows it, its scope count; what an administrator revoked stays revoked.
#[derive(Clone, Debug, Default)]
pub struct Peers {
    configured: Arc<BTreeMap<TrustDomain, Relationship>>,
}

/// A relationship as it counts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Peer {
    /// The relationship.
    pub relationship: Relationship,
    /// Whether its source is the configuration's.
    pub configured: bool,
}

impl Peers {
    /// The relationships of the configuration.
    pub fn new(configured: impl IntoIterator<Item = Relationship>) -> Self {
        let configured = configured.into_iter();
        let by_name = configured.map(|relationship| (relationship.trust_domain.clone(), relationship));
        Self {
            configured: Arc::new(by_name.collect()),
        }
    }

    /// Whether the configuration names the trust domain.
    pub fn is_configured(&self, trust_domain: &TrustDomain) -> bool {
        self.configured.contains_key(trust_domain)
    }

    /// Every relationship as it counts in `view`.
    pub fn all(&self, view: &View) -> BTreeMap<TrustDomain, Peer> {
        let mut all: BTreeMap<_, _> = view
            .documents(Tree::Relationships)
            .filter_map(|(name, document)| match Relationship::from_bytes(&document.value) {
                Ok(relationship) => Some((relationship.trust_domain.clone(), self.counting(relationship))),
                Err(error) => {
                    let shown = name.escape_ascii();
                    error!(record = %shown, error = &error as &dyn std::error::Error, "a relationship in the log can't be read; nothing of its trust domain counts");
                    let name: TrustDomain = std::str::from_utf8(name).ok()?.parse().ok()?;
                    Some((name.clone(), unreadable(name)))
                }
            })
            .collect();
        for (name, relationship) in &*self.configured {
            all.entry(name.clone()).or_insert_with(|| Peer {
                relationship: relationship.clone(),
                configured: true,
            });
        }
        all
    }

    /// The relationship with one trust domain, as it counts in `view`.
    pub fn get(&self, view: &View, trust_domain: &TrustDomain) -> Option<Peer> {
        match view.document(Tree::Relationships, trust_domain.as_str().as_bytes()) {
            Some(document) => Some(match Relationship::from_bytes(&document.value) {
                Ok(relationship) => self.counting(relationship),
                Err(_) => unreadable(trust_domain.clone()),
            }),
            None => self.configured.get(trust_domain).map(|relationship| Peer {
                relationship: relationship.clone(),
                configured: true,
            }),
        }
    }

    fn counting(&self, recorded: Relationship) -> Peer {
        let Some(configured) = self.configured.get(&recorded.trust_domain) else {
            return Peer {
                relationship: recorded,
                configured: false,
            };
        };
        let scope = match recorded.scope == Scope::all() {
            true => configured.scope.clone(),
            false => recorded.scope,
        };
        let relationship = Relationship {
            source: configured.source.clone(),
            scope,
            ..recorded
        };
        Peer {
            relationship,
            configured: true,
        }
    }
}

/// What stands for a record that can't be read: it may have narrowed or revoked, and to guess otherwise would widen.
fn unreadable(trust_domain: TrustDomain) -> Peer {
    Peer {
        relationship: Relationship {
            revoked_at: Some(UnixTime::from_secs(0)),
            ..Relationship::without_source(trust_domain)
        },
        configured: false,
    }
}

/// The record about one trust domain, as it is in the log.
pub fn recorded(view: &View, trust_domain: &TrustDomain) -> Option<Relationship> {
    let document = view.document(Tree::Relationships, trust_domain.as_str().as_bytes())?;
    Relationship::from_bytes(&document.value).ok()
}
