//! What is to be signed, and what came of it.

use std::sync::Arc;

use muster_identity::{EntryId, SpiffeId, UnixTime};
use muster_pki::x509::AuthorityId;

use super::chains::authority_above;
use super::machine::Cache;
use super::view::HeldX509;
use crate::rotate::{Outcome, Validity};

/// An SVID to be signed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SignOrder {
    /// Under which entry.
    pub entry_id: EntryId,
    /// Whose it will be.
    pub id: SpiffeId,
    /// The entry's `x509_version` as it is known here.
    pub x509_version: u64,
}

/// Why an SVID was not signed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SignFailure {
    /// The server was not reached or could not answer.
    Unreachable,
    /// The server answered no.
    Refused,
}

impl Cache {
    /// When [`Cache::due`] or [`Cache::tick`] will have something to do.
    pub fn next_wake(&self) -> Option<UnixTime> {
        [self.renewals.next_wake(), self.next_end()]
            .into_iter()
            .flatten()
            .min()
    }

    /// When the first SVID ends that is held now.
    pub fn next_end(&self) -> Option<UnixTime> {
        self.ends.first().map(|(at, _)| *at)
    }

    /// The server can be reached (again): what failed is tried now.
    pub fn server_is_back(&mut self, now: UnixTime) {
        self.renewals.hurry(now);
    }

    /// The clock was set or the machine slept.
    pub fn clock_was_set(&mut self, now: UnixTime) {
        self.renewals.clock_was_set(now);
    }

    /// Notices what ended and who left.
    pub fn tick(&mut self, now: UnixTime) {
        while let Some((_, id)) = self.ends.first().filter(|(at, _)| *at <= now).cloned() {
            self.drop_svid(&id);
            self.failed.insert(id.clone());
            self.dirty.extend(self.groups.of_entry(&id));
        }
        self.sweep();
        self.settle(now);
    }

    /// At most `limit` SVIDs that are to be signed now. Each needs a [`Cache::signed`].
    pub fn due(&mut self, now: UnixTime, limit: usize) -> Vec<SignOrder> {
        let mut orders = Vec::new();
        for entry_id in self.renewals.due(now, limit) {
            match self.entries.get(&entry_id) {
                Some(entry) => orders.push(SignOrder {
                    entry_id,
                    id: entry.spiffe_id.clone(),
                    x509_version: entry.x509_version,
                }),
                None => self.renewals.forget(&entry_id),
            }
        }
        orders
    }

    /// Orders that could not even be asked for, because the connection ended first: they are due again at once.
    pub fn not_asked(&mut self, entries: &[EntryId], now: UnixTime) {
        entries
            .iter()
            .for_each(|entry| self.renewals.put_back(entry, now));
    }

    /// What became of orders.
    pub fn signed(&mut self, results: Vec<(EntryId, Result<HeldX509, SignFailure>)>, now: UnixTime) {
        for (entry_id, result) in results {
            // Whoever lost the entry or nobody's attention has no plan any more: the SVID is dropped unseen.
            let Some(entry) = self
                .entries
                .get(&entry_id)
                .filter(|_| self.renewals.knows(&entry_id))
            else {
                continue;
            };
            let above = result.as_ref().ok().and_then(authority_above);
            let outcome = match result {
                // Made under a name that the entry had before: it is not to be seen by anybody, and the new one is being made.
                Ok(svid) if svid.id != entry.spiffe_id => Outcome::Unreachable,
                // Signed before the authority was revoked, and on its way since (I4).
                Ok(_) if above.as_ref().is_some_and(|above| self.chains.is_revoked(above)) => {
                    Outcome::Unreachable
                }
                Ok(svid) => {
                    let outcome = Outcome::Issued(validity(&svid));
                    if svid.expires > now {
                        self.hold(&entry_id, &Arc::new(svid), above.clone());
                    }
                    outcome
                }
                Err(SignFailure::Unreachable) => Outcome::Unreachable,
                Err(SignFailure::Refused) => Outcome::Refused,
            };
            self.renewals.finished(&entry_id, outcome, now);
            if matches!(outcome, Outcome::Issued(_)) {
                self.came_below(&entry_id, above.as_ref(), now);
            }
            if !self.svids.contains_key(&entry_id) {
                self.failed.insert(entry_id.clone());
            }
            self.dirty.extend(self.groups.of_entry(&entry_id));
        }
        self.settle(now);
    }

    pub(super) fn hold(&mut self, id: &EntryId, svid: &Arc<HeldX509>, above: Option<AuthorityId>) {
        self.drop_svid(id);
        self.chains.put(id, above);
        self.changes += 1;
        self.ends.insert((svid.expires, id.clone()));
        self.svids.insert(id.clone(), Arc::clone(svid));
    }

    pub(super) fn drop_svid(&mut self, id: &EntryId) {
        self.failed.remove(id);
        if let Some(svid) = self.svids.remove(id) {
            self.changes += 1;
            self.ends.remove(&(svid.expires, id.clone()));
            self.of_other_store.remove(id);
            self.chains.remove(id);
        }
    }
}

pub(super) fn validity(svid: &HeldX509) -> Validity {
    Validity {
        received: svid.received,
        ends: svid.expires,
    }
}
