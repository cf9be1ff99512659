//! Which tokens a caller is to get.

use std::sync::Arc;

use muster_identity::{EntryId, Facts, Hint, SpiffeId, UnixTime};
use muster_pki::bundle::AuthorityStanding;
use muster_pki::jwt::JwtSvid;

use super::machine::Cache;
use super::tokens::Age;
use super::view::HeldIdentity;

/// A JWT-SVID that a caller is to get.
#[derive(Debug)]
pub(super) struct TokenTarget {
    pub(super) entry_id: EntryId,
    pub(super) id: SpiffeId,
    pub(super) hint: Option<Hint>,
    pub(super) held: Option<(Arc<JwtSvid>, Age)>,
    pub(super) single_use: bool,
}

impl Cache {
    /// The JWT-SVIDs that callers with `facts` may have for `audience`, those that are held with them. `id` leaves only one identity's.
    pub(super) fn token_targets(
        &mut self,
        facts: &Facts,
        id: Option<&SpiffeId>,
        audience: &[String],
        now: UnixTime,
    ) -> Vec<TokenTarget> {
        let identities = match self.groups.with_facts(facts) {
            Some(group) => group.view().identities.clone(),
            None => self.identities(&self.entries.matching(facts)),
        };
        let mut targets = Vec::new();
        for identity in identities
            .into_iter()
            .filter(|identity| id.is_none_or(|id| *id == identity.id))
        {
            let single_use = self
                .entries
                .get(&identity.entry_id)
                .is_some_and(|entry| entry.attributes.jwt_svid_include_jti);
            let held = if single_use {
                None
            } else {
                self.tokens.find(&identity.entry_id, audience, now)
            };
            let HeldIdentity {
                entry_id, id, hint, ..
            } = identity;
            targets.push(TokenTarget {
                entry_id,
                id,
                hint,
                held,
                single_use,
            });
        }
        targets
    }

    /// Keeps a token, unless its entry went or changed its name meanwhile. Whether it may still be handed out.
    pub(super) fn token_signed(
        &mut self,
        entry_id: &EntryId,
        audience: &[String],
        svid: &Arc<JwtSvid>,
        now: UnixTime,
    ) -> bool {
        let Some(entry) = self
            .entries
            .get(entry_id)
            .filter(|entry| entry.spiffe_id == *svid.id())
        else {
            return false;
        };
        let key = svid.key_id();
        if key.is_some_and(|key| self.chains.is_revoked_key(key)) {
            return false;
        }
        let own = self.bundles.own();
        let lasts = key.is_none_or(|key| own.jwt_standing(key) != AuthorityStanding::Tainted);
        if lasts && !entry.attributes.jwt_svid_include_jti {
            self.tokens.keep(entry_id, audience, Arc::clone(svid), now);
        }
        true
    }
}
