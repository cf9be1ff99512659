//! What survives a restart.

use std::sync::Arc;

use muster_identity::{EntryId, Position, UnixTime};
use muster_pki::bundle::{AuthorityStanding, Bundle, Scope};
use muster_proto::convert::NodeEntry;

use super::chains::authority_above;
use super::machine::Cache;
use super::signing::validity;
use super::view::HeldX509;

/// All that survives a restart. Views and tokens don't: they are made anew.
#[derive(Debug, Default)]
pub struct Kept {
    /// Where the entries stand.
    pub position: Option<Position>,
    /// The entries.
    pub entries: Vec<Arc<NodeEntry>>,
    /// SVIDs by entry.
    pub svids: Vec<(EntryId, Arc<HeldX509>)>,
    /// Bundles of other trust domains, and what each is narrowed to. The own one is kept with the node's identity.
    pub federated: Vec<(Arc<Bundle>, Scope)>,
}

impl Cache {
    /// Takes up what was held before a restart. SVIDs that ended, whose entry has another name by now or whose authority is in the bundle no more are left out.
    pub fn restore(&mut self, kept: Kept, now: UnixTime) {
        for (bundle, scope) in kept.federated {
            self.bundles.put(&bundle, &scope, None);
        }
        for entry in kept.entries {
            self.attention.known(&entry.id, prefetched(&entry));
            self.entries.put(entry);
        }
        self.position = kept.position;
        for (entry_id, svid) in kept.svids {
            let current = self
                .entries
                .get(&entry_id)
                .filter(|entry| entry.spiffe_id == svid.id && svid.expires > now);
            let above = authority_above(&svid);
            let own = self.bundles.own();
            // The bundle is written before the SVIDs are: a crash between the two must not bring a revoked authority's back (I4).
            let current = current.filter(|_| {
                above
                    .as_ref()
                    .is_none_or(|above| own.x509_standing(above) != AuthorityStanding::Absent)
            });
            if let Some(version) = current.map(|entry| entry.x509_version) {
                self.attention.was_held(&entry_id);
                self.hold(&entry_id, &svid, above);
                self.renewals.held(entry_id.clone(), validity(&svid), now);
                if svid.version < version {
                    self.renewals.want(entry_id, now);
                }
            }
        }
        self.make_tainted_again(now);
        self.settle(now);
    }

    /// After a restart nobody knows any more that an SVID was made under another store's numbers: it is kept as older than any entry.
    fn by_this_store(&self, id: &EntryId, svid: &Arc<HeldX509>) -> Arc<HeldX509> {
        if !self.of_other_store.contains(id) {
            return Arc::clone(svid);
        }
        Arc::new(HeldX509 {
            id: svid.id.clone(),
            chain: svid.chain.clone(),
            key: svid.key.clone(),
            received: svid.received,
            expires: svid.expires,
            version: 0,
        })
    }

    /// What to keep over a restart.
    pub fn to_keep(&self) -> Kept {
        Kept {
            position: self.position,
            entries: self.entries.iter().cloned().collect(),
            svids: self
                .svids
                .iter()
                .map(|(id, svid)| (id.clone(), self.by_this_store(id, svid)))
                .collect(),
            federated: self.bundles.federated().cloned().collect(),
        }
    }
}

/// Whether an entry may be signed before anybody asks.
pub(super) fn prefetched(entry: &NodeEntry) -> bool {
    !entry.attributes.disable_x509_svid_prefetch && !entry.store_svid
}
