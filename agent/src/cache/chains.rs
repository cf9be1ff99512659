//! Which authority stands above each SVID that is held, and what becomes of them when one is tainted or revoked.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use muster_identity::{EntryId, UnixTime};
use muster_pki::bundle::{AuthorityStanding, Bundle};
use muster_pki::jwt::KeyId;
use muster_pki::x509::{AuthorityId, X509Svid};

use super::machine::Cache;
use super::view::HeldX509;
use crate::rotate::Worth;

/// How many revoked authorities are remembered: what they signed may still be on its way here.
const MOST_REVOKED: usize = 64;
/// How many SVIDs below a tainted authority are made again in a second: all nodes hear of it at once.
const REMADE_A_SECOND: usize = 100;

/// SVIDs by the authority above them.
#[derive(Debug, Default)]
pub(super) struct Chains {
    above: BTreeMap<EntryId, AuthorityId>,
    below: BTreeMap<AuthorityId, BTreeSet<EntryId>>,
    revoked: VecDeque<AuthorityId>,
    revoked_keys: VecDeque<KeyId>,
}

/// How much was outdated by taints and revocations since the start.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct OutdatedTotals {
    /// X.509-SVIDs that had to be made again.
    pub x509: u64,
    /// Tokens that were dropped.
    pub jwt: u64,
}

impl Chains {
    pub(super) fn put(&mut self, id: &EntryId, above: Option<AuthorityId>) {
        self.remove(id);
        if let Some(authority) = above {
            self.below
                .entry(authority.clone())
                .or_default()
                .insert(id.clone());
            self.above.insert(id.clone(), authority);
        }
    }

    pub(super) fn remove(&mut self, id: &EntryId) {
        if let Some(authority) = self.above.remove(id)
            && let Some(below) = self.below.get_mut(&authority)
        {
            below.remove(id);
            if below.is_empty() {
                self.below.remove(&authority);
            }
        }
    }

    pub(super) fn is_revoked(&self, authority: &AuthorityId) -> bool {
        self.revoked.contains(authority)
    }

    pub(super) fn is_revoked_key(&self, key: &KeyId) -> bool {
        self.revoked_keys.contains(key)
    }

    fn below(&self, authority: &AuthorityId) -> Vec<EntryId> {
        self.below
            .get(authority)
            .map_or_else(Vec::new, |below| below.iter().cloned().collect())
    }
}

/// The authority above an SVID; none when its certificates don't say.
pub(super) fn authority_above(svid: &HeldX509) -> Option<AuthorityId> {
    X509Svid::from_der_concat(&svid.chain).ok()?.authority_id()
}

impl Cache {
    /// How many X.509-SVIDs are held below a tainted authority.
    pub fn outdated(&self) -> usize {
        let own = self.bundles.own();
        let tainted = self
            .chains
            .below
            .iter()
            .filter(|(authority, _)| own.x509_standing(authority) == AuthorityStanding::Tainted);
        tainted.map(|(_, below)| below.len()).sum()
    }

    /// How much was outdated since the start.
    pub fn outdated_totals(&self) -> OutdatedTotals {
        self.outdated_totals
    }

    /// Follows the own bundle from `before` to what it is now. What a revoked authority signed is dropped at once (I4); what a tainted one signed stays until it is made
    /// again (I11), spread over some seconds.
    pub(super) fn follow_authorities(&mut self, before: &Bundle, now: UnixTime) {
        let own = std::sync::Arc::clone(self.bundles.own());
        // One that is in the bundle again counts again: a store that was restored may have been without it for a while.
        let is_gone = |standing| standing == AuthorityStanding::Absent;
        self.chains.revoked.retain(|id| is_gone(own.x509_standing(id)));
        self.chains
            .revoked_keys
            .retain(|id| is_gone(own.jwt_standing(id)));
        for authority in before.x509_authorities() {
            if own.x509_standing(authority.id()) == AuthorityStanding::Absent {
                self.revoked(authority.id(), now);
            }
        }
        for key in before.jwt_authorities() {
            if own.jwt_standing(key.key_id()) == AuthorityStanding::Absent {
                remember(&mut self.chains.revoked_keys, key.key_id());
            }
        }
        let newly = |authority: &AuthorityId| before.x509_standing(authority) != AuthorityStanding::Tainted;
        let tainted = own.x509_authorities().iter();
        let tainted = tainted.filter(|authority| authority.tainted() && newly(authority.id()));
        let stale: Vec<EntryId> = tainted
            .flat_map(|authority| self.chains.below(authority.id()))
            .collect();
        self.make_again(stale, now);
        if gains_an_authority(before, &own) {
            let tainted = own
                .x509_authorities()
                .iter()
                .filter(|authority| authority.tainted());
            let makeshifts = tainted
                .flat_map(|authority| self.chains.below(authority.id()))
                .collect();
            self.renewals.hope(makeshifts, REMADE_A_SECOND, now);
        }
        let keys = |key: &KeyId| own.jwt_standing(key) == AuthorityStanding::Trusted;
        let dropped = self.tokens.retain_signed_by(keys);
        self.outdated_totals.jwt += u64::try_from(dropped).unwrap_or(0);
    }

    /// What was held below a tainted authority before a restart.
    pub(super) fn make_tainted_again(&mut self, now: UnixTime) {
        let own = std::sync::Arc::clone(self.bundles.own());
        let tainted = own
            .x509_authorities()
            .iter()
            .filter(|authority| authority.tainted());
        let stale = tainted
            .flat_map(|authority| self.chains.below(authority.id()))
            .collect();
        self.make_again(stale, now);
    }

    /// One came. Below a tainted authority it is a makeshift: from before the taint was known there, or because there is no other yet.
    pub(super) fn came_below(&mut self, id: &EntryId, above: Option<&AuthorityId>, now: UnixTime) {
        let own = self.bundles.own();
        let tainted = above.is_some_and(|above| own.x509_standing(above) == AuthorityStanding::Tainted);
        let worth = if tainted { Worth::Makeshift } else { Worth::Good };
        self.renewals.judge(id, worth, now);
    }

    fn make_again(&mut self, stale: Vec<EntryId>, now: UnixTime) {
        self.outdated_totals.x509 += u64::try_from(stale.len()).unwrap_or(0);
        self.renewals.make_again(stale, REMADE_A_SECOND, now);
    }

    fn revoked(&mut self, authority: &AuthorityId, now: UnixTime) {
        remember(&mut self.chains.revoked, authority);
        let lost = self.chains.below(authority);
        self.outdated_totals.x509 += u64::try_from(lost.len()).unwrap_or(0);
        for id in lost {
            self.drop_svid(&id);
            self.renewals.want(id.clone(), now);
            self.dirty.extend(self.groups.of_entry(&id));
        }
    }
}

/// Whether `own` has an authority to sign with that was not in the bundle `before`.
pub(crate) fn gains_an_authority(before: &Bundle, own: &Bundle) -> bool {
    let mut usable = own
        .x509_authorities()
        .iter()
        .filter(|authority| !authority.tainted());
    usable.any(|authority| before.x509_standing(authority.id()) == AuthorityStanding::Absent)
}

fn remember<T: Clone + PartialEq>(all: &mut VecDeque<T>, one: &T) {
    all.retain(|known| known != one);
    all.push_back(one.clone());
    if all.len() > MOST_REVOKED {
        all.pop_front();
    }
}

#[cfg(test)]
mod tests;
