//! What a caller may do who is no full administrator.
//!
//! caller → its grants in one view → [`decide`] on the state before and after a change → the grant that allows it, or what lies outside
//!
//! A grant is looked up at each call, on the very view on which the change is planned. Changes by grants and changes of grants go one at a time
//! ([`OneAtATime`]): when the deletion of a grant is answered, nothing more is made by it, and no two calls share the last place that it has.

mod decide;
mod opening;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use muster_identity::{EntrySpec, Grant, GrantName, Lifetime, SpiffeId, UnixTime, Verb};
use tokio::sync::{Mutex, MutexGuard};
use tonic::Code;

pub(super) use decide::{Denied, Mint, Planned, Surroundings};
pub(super) use opening::verb_for;

use super::{Caller, Context, Refusal, Role};
use crate::{
    ca::Holder,
    registry::{GrantRecord, TokenGrant, View},
};

/// Held while something is changed by a grant, and while a grant is changed.
#[derive(Debug, Default)]
pub struct OneAtATime(Mutex<()>);

impl OneAtATime {
    pub(super) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.0.lock().await
    }
}

/// What a caller may do, as of one view.
#[derive(Debug)]
pub(super) enum Scope {
    /// Whatever its method says.
    Everything,
    /// What one of these grants allows alone. None of them has ended, and there is one.
    Grants(Vec<Arc<GrantRecord>>),
}

impl Context {
    /// What `caller` may do in `view`.
    pub(super) fn scope(&self, caller: &Caller, view: &View) -> Result<Scope, Refusal> {
        if caller.role() != Role::Granted {
            return Ok(Scope::Everything);
        }
        let now = self.clock.now();
        let grants = caller.subject().into_iter().flat_map(|subject| {
            let live = view.grants_of(&subject).filter(|held| held.grant.is_live(now));
            live.cloned().collect::<Vec<_>>()
        });
        let grants: Vec<_> = grants.collect();
        if grants.is_empty() {
            return Err(grants_ended());
        }
        Ok(Scope::Grants(grants))
    }

    /// The scope in the newest view, for a method that needs `verb`.
    pub(super) fn scope_for(&self, caller: &Caller, view: &View, verb: Verb) -> Result<Scope, Refusal> {
        let scope = self.scope(caller, view)?;
        scope.may(verb)?;
        Ok(scope)
    }

    /// What a decision rests on beside the grants.
    pub(super) fn surroundings<'a>(&'a self, view: &'a View) -> Surroundings<'a> {
        Surroundings {
            view,
            admin_ids: &self.admin_ids,
            lifetimes: self.ca.lifetimes(),
            node_attestors: &self.node_attestors,
        }
    }
}

impl Scope {
    /// Whether one of the grants has the verb.
    pub(super) fn may(&self, verb: Verb) -> Result<(), Refusal> {
        match self.some(|grant| grant.verbs.has(verb)) {
            true => Ok(()),
            false => Err(Refusal::new(
                Code::PermissionDenied,
                format!("authorization denied: the caller has no grant with the verb {verb}"),
            )),
        }
    }

    /// Whether the caller may know of an entry: it lies inside a grant.
    pub(super) fn holds(&self, spec: &EntrySpec) -> bool {
        self.some(|grant| grant.holds(spec))
    }

    /// Whether the caller may look at an entry.
    pub(super) fn shows(&self, spec: &EntrySpec) -> bool {
        self.some(|grant| grant.verbs.has(Verb::EntryRead) && grant.holds(spec))
    }

    /// Whether the caller may do `verb` to a node.
    pub(super) fn reaches_node(&self, verb: Verb, id: &SpiffeId) -> bool {
        self.some(|grant| grant.verbs.has(verb) && grant.holds_node(id))
    }

    /// Decides a change of an entry. Answers the entry as the grant lets it be, and the grant to which it counts.
    pub(super) fn entry(
        &self,
        surroundings: &Surroundings<'_>,
        planned: &Planned,
        before: Option<&EntrySpec>,
        after: Option<EntrySpec>,
    ) -> Result<(Option<EntrySpec>, Option<GrantName>), Denied> {
        match self {
            Self::Everything => Ok((after, None)),
            Self::Grants(grants) => {
                let (grant, after) = decide::entry(grants, surroundings, planned, before, after.as_ref())?;
                Ok((after, Some(grant.name.clone())))
            }
        }
    }

    /// Decides a signature by name. Answers how long it may live, and the grant.
    pub(super) fn mint(
        &self,
        surroundings: &Surroundings<'_>,
        mint: &Mint<'_>,
    ) -> Result<(Option<Lifetime>, Option<GrantName>), Denied> {
        match self {
            Self::Everything => Ok((mint.lifetime, None)),
            Self::Grants(grants) => {
                let grant = decide::mint(grants, surroundings, mint)?;
                let lifetimes = surroundings.lifetimes;
                let usual = match mint.verb {
                    Verb::JwtSvidMint => lifetimes.jwt(None),
                    _ => lifetimes.x509(Holder::Workload, None),
                };
                let asked = mint.lifetime.or(usual.ok());
                Ok((asked.map(|asked| grant.capped(asked)), Some(grant.name.clone())))
            }
        }
    }

    /// Decides whether a node may be let in by a token, and be called `alias` besides. Answers with the grant that allows it, and when that ends.
    pub(super) fn token(
        &self,
        surroundings: &Surroundings<'_>,
        node: &SpiffeId,
        alias: Option<&SpiffeId>,
    ) -> Result<Option<(TokenGrant, Option<UnixTime>)>, Denied> {
        match self {
            Self::Everything => Ok(None),
            Self::Grants(grants) => {
                let record = decide::token(grants, surroundings, node, alias)?;
                Ok(Some((TokenGrant::of(record), record.grant.expires_at)))
            }
        }
    }

    fn some(&self, holds: impl Fn(&Grant) -> bool) -> bool {
        match self {
            Self::Everything => true,
            Self::Grants(grants) => grants.iter().any(|held| holds(&held.grant)),
        }
    }
}

/// Decides once more, when the token is redeemed, whether `grant` may let the node in and call it `alias`: what counts is what is true then.
pub(super) fn redeem(
    surroundings: &Surroundings<'_>,
    grant: &Arc<GrantRecord>,
    node: &SpiffeId,
    alias: Option<&SpiffeId>,
) -> Result<(), Denied> {
    decide::token(std::slice::from_ref(grant), surroundings, node, alias).map(|_| ())
}

/// Why nothing is done for whoever was let in by a grant that has ended since.
pub(super) fn grants_ended() -> Refusal {
    let text = "authorization denied: the caller's grants have ended";
    Refusal::new(Code::PermissionDenied, text)
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        let code = match denied {
            Denied::Full { .. } => Code::ResourceExhausted,
            _ => Code::PermissionDenied,
        };
        Self::new(code, denied.to_string())
    }
}
