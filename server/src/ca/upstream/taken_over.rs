//! What is known above, taken into our bundle. No IO, no clock.
//!
//! New roots are added. A root that is tainted above is tainted here, and one that is gone there is gone here, but neither before we have left it: the first thing that
//! nodes do when they hear of a taint is to have everything signed anew, and that must not come from the same root again. So such a root is named to be
//! left, and what is due to it is done once nothing of ours that signs, or will sign, stands under it.
//!
//! Of what one never told nobody can say that it is gone there, and what it told and we don't have was taken out here: the log knows which is which ([`Origins`]).

use std::collections::BTreeSet;

use muster_identity::UnixTime;
use muster_pki::bundle::{AuthorityStanding, Bundle};
use muster_pki::jwt::{JwtAuthority, KeyId};
use muster_pki::x509::X509Authority;
use muster_plugin_api::{Extent, UpstreamBundle};

use crate::ca::foreign_keys::ForeignKeys;
use crate::ca::life::{Authority, Stage};
use crate::ca::origin::Origins;
use crate::ca::record::Kind;
use crate::store::Change;

/// What changed, and what has to wait.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct TakenOver {
    /// Roots and keys that are new.
    pub(super) added: Vec<String>,
    /// Those that are tainted now.
    pub(super) tainted: Vec<String>,
    /// Those that are gone now.
    pub(super) revoked: Vec<String>,
    /// Roots that we have to leave before.
    pub(super) leaving: BTreeSet<String>,
    /// Keys that could not be taken, because their names are others' or there are too many.
    pub(super) refused: Vec<String>,
}

/// What is known above. Nothing: nothing has been told yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Above {
    whom: String,
    known: UpstreamBundle,
}

impl Above {
    /// What `whom` tells.
    pub(super) fn new(whom: String) -> Self {
        let known = UpstreamBundle::default();
        Self { whom, known }
    }

    /// What is known there now.
    pub(super) fn known(&self) -> &UpstreamBundle {
        &self.known
    }

    /// Takes in what was told.
    pub(super) fn told(&mut self, known: UpstreamBundle) {
        self.known = known;
    }

    /// What the log is to keep of what was taken over into `bundle`. Keys that were refused are left out: they are tried again.
    pub(super) fn kept(
        &self,
        origins: &Origins,
        bundle: &Bundle,
        taken: &TakenOver,
        now: UnixTime,
    ) -> Vec<Change> {
        let UpstreamBundle {
            x509_authorities,
            jwt_authorities,
            ..
        } = &self.known;
        let keys = jwt_authorities
            .iter()
            .filter(|key| !taken.refused.iter().any(|id| id == key.key_id().as_str()));
        let mut changes = origins.told(&self.whom, x509_authorities, keys);
        changes.extend(origins.forgotten(&self.whom, &self.known, bundle, now));
        changes
    }

    /// Token-signing keys of ours that nobody above has heard of: they were made while it was away, or before there was an upstream.
    pub(super) fn unknown_keys(
        &self,
        bundle: &Bundle,
        keys: &ForeignKeys,
        origins: &Origins,
        now: UnixTime,
    ) -> Vec<JwtAuthority> {
        if self.known.extent != Extent::All {
            return Vec::new();
        }
        let ours = bundle.jwt_authorities().iter().filter(|key| {
            keys.is_own(key)
                && !key.tainted()
                && key.expires_at().is_none_or(|end| end > now)
                && !has_key(&self.known.jwt_authorities, key.key_id())
                && !origins.is_told_by(&self.whom, Kind::Jwt, key.key_id().as_str())
        });
        ours.cloned().collect()
    }

    /// Takes over into `bundle` what can be, if `held` are our X.509 authorities.
    pub(super) fn take_over(
        &self,
        bundle: &mut Bundle,
        held: &[Authority],
        keys: &ForeignKeys,
        origins: &Origins,
        now: UnixTime,
    ) -> TakenOver {
        let mut taken = TakenOver::default();
        self.take_roots(bundle, held, origins, now, &mut taken);
        self.take_keys(bundle, keys, origins, &mut taken);
        taken
    }

    fn take_roots(
        &self,
        bundle: &mut Bundle,
        held: &[Authority],
        origins: &Origins,
        now: UnixTime,
        taken: &mut TakenOver,
    ) {
        let in_use = |id: &str| {
            let mut signing = held
                .iter()
                .filter(|own| matches!(own.stage, Stage::Active | Stage::Prepared));
            signing.any(|own| own.upstream.as_deref() == Some(id))
        };
        for root in &self.known.x509_authorities {
            let id = root.id().to_string();
            let here = bundle
                .x509_authorities()
                .iter()
                .find(|here| here.der() == root.der());
            let tainted_here = here.is_some_and(X509Authority::tainted);
            if here.is_none() {
                if root.validity().not_after < now || origins.lost_root(root, bundle) {
                    continue;
                }
                let tainted = bundle.x509_standing(root.id()) == AuthorityStanding::Tainted;
                bundle.put_x509_authority(root.clone().with_taint(tainted));
                taken.added.push(id.clone());
            }
            if !(root.tainted() || tainted_here) {
                continue;
            }
            if in_use(&id) {
                taken.leaving.insert(id);
            } else if !tainted_here {
                bundle.put_x509_authority(root.clone().with_taint(true));
                taken.tainted.push(id);
            }
        }
        if self.known.extent != Extent::All {
            return;
        }
        // By the key: a certificate that was renewed takes no trust from the one before, which stays until its end.
        let known = |root: &X509Authority| {
            self.known
                .x509_authorities
                .iter()
                .any(|above| above.id() == root.id())
        };
        let from_above = |id: &str| {
            origins.is_told_by(&self.whom, Kind::X509, id)
                || held.iter().any(|own| own.upstream.as_deref() == Some(id))
        };
        bundle.retain_x509_authorities(|root| {
            let id = root.id().as_str();
            if known(root) || !from_above(id) {
                return true;
            }
            if in_use(id) {
                taken.leaving.insert(id.to_owned());
                return true;
            }
            taken.revoked.push(id.to_owned());
            false
        });
    }

    fn take_keys(&self, bundle: &mut Bundle, keys: &ForeignKeys, origins: &Origins, taken: &mut TakenOver) {
        for key in &self.known.jwt_authorities {
            let id = key.key_id().to_string();
            let before = bundle.jwt_authorities().len();
            if origins.lost_key(key, bundle) {
                continue;
            }
            if keys.put(bundle, key).is_err() {
                taken.refused.push(id);
                continue;
            }
            if bundle.jwt_authorities().len() > before {
                taken.added.push(id.clone());
            }
            // Ours are tainted and revoked where they sign.
            let here = bundle
                .jwt_authorities()
                .iter()
                .find(|here| here.key_id() == key.key_id());
            let Some(here) = here.filter(|here| key.tainted() && !here.tainted() && !keys.is_own(here))
            else {
                continue;
            };
            let tainted = here.clone().with_taint(true);
            if bundle.put_jwt_authority(tainted).is_ok() {
                taken.tainted.push(id);
            }
        }
        if self.known.extent != Extent::All {
            return;
        }
        bundle.retain_jwt_authorities(|key| {
            let id = key.key_id();
            let known = has_key(&self.known.jwt_authorities, id);
            if known || keys.is_own(key) || !origins.is_told_by(&self.whom, Kind::Jwt, id.as_str()) {
                return true;
            }
            taken.revoked.push(id.to_string());
            false
        });
    }
}

fn has_key(keys: &[JwtAuthority], id: &KeyId) -> bool {
    keys.iter().any(|key| key.key_id() == id)
}

#[cfg(test)]
mod tests;
