//! From what is held to what one kind of caller sees.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use muster_identity::{EntryId, Hint, UnixTime};
use muster_pki::bundle::BundleSet;

use super::bundles::Bundles;
use super::entries::Entries;
use super::machine::{Cache, Contact};
use super::view::{HeldIdentity, WorkloadView};

impl Cache {
    pub(super) fn view(&mut self, entries: &BTreeSet<EntryId>) -> WorkloadView {
        let identities = self.identities(entries);
        let entitled = !identities.is_empty();
        let signing =
            |identity: &HeldIdentity| identity.x509.is_none() && !self.failed.contains(&identity.entry_id);
        let ready = match self.contact {
            Contact::Awaited => entitled && identities.iter().all(|identity| identity.x509.is_some()),
            Contact::Settled => !identities.iter().any(signing),
        };
        WorkloadView::new(
            identities,
            bundles_of(&mut self.bundles, entries, &self.entries),
            entitled,
            ready,
        )
    }

    /// The identities that `entries` give, without those whose hint an older entry has too (Workload API 5.2.1).
    pub(super) fn identities(&self, entries: &BTreeSet<EntryId>) -> Vec<HeldIdentity> {
        let entries: Vec<_> = entries.iter().filter_map(|id| self.entries.get(id)).collect();
        let mut oldest: BTreeMap<&Hint, (UnixTime, &EntryId)> = BTreeMap::new();
        for entry in &entries {
            if let Some(hint) = &entry.hint {
                let age = (entry.created_at, &entry.id);
                oldest
                    .entry(hint)
                    .and_modify(|oldest| *oldest = age.min(*oldest))
                    .or_insert(age);
            }
        }
        let shown = entries.into_iter().filter(|entry| {
            entry
                .hint
                .as_ref()
                .and_then(|hint| oldest.get(hint))
                .is_none_or(|(_, id)| **id == entry.id)
        });
        shown
            .map(|entry| HeldIdentity {
                entry_id: entry.id.clone(),
                id: entry.spiffe_id.clone(),
                hint: entry.hint.clone(),
                federates_with: entry.federates_with.clone(),
                x509: self.svids.get(&entry.id).cloned(),
            })
            .collect()
    }
}

fn bundles_of(bundles: &mut Bundles, ids: &BTreeSet<EntryId>, entries: &Entries) -> Arc<BundleSet> {
    let wanted = ids
        .iter()
        .filter_map(|id| entries.get(id))
        .flat_map(|entry| entry.federates_with.iter().cloned());
    bundles.set(&wanted.collect())
}
