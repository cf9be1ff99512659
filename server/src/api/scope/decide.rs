//! The decision: what grants allow, by the state before and after. Pure.
//!
//! That name, parent and selectors lie inside is not enough. Two more things would lead out of a grant: an ID below which others' entries hang hands them to other
//! nodes when it gets another parent; and an ID that has power (an administrator's, a downstream server's, the subject of a grant, one that proves a node) gives that
//! power to whoever gets the ID. Both are for those who may touch what hangs there.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use muster_identity::{DnsName, EntrySpec, Grant, GrantName, Lifetime, Outside, SpiffeId, Subject, Verb};

use crate::{
    ca::{Holder, Lifetimes},
    node_attestors::NodeAttestors,
    registry::{GrantRecord, View},
};

/// How much may hang below an ID that is changed by a grant: all of it is looked at (I10).
const MOST_BELOW: usize = 1_000;
/// How many grants' reasons are told.
const MOST_REASONS: usize = 4;

/// What a decision rests on beside the grants.
#[derive(Clone, Copy)]
pub(in crate::api) struct Surroundings<'a> {
    pub(in crate::api) view: &'a View,
    pub(in crate::api) admin_ids: &'a BTreeSet<SpiffeId>,
    pub(in crate::api) lifetimes: &'a Lifetimes,
    pub(in crate::api) node_attestors: &'a NodeAttestors,
}

/// Entries that are about to be made by grants, and are not in the view yet.
#[derive(Debug, Default)]
pub(in crate::api) struct Planned(HashMap<GrantName, usize>);

/// A signature by name.
#[derive(Clone, Copy, Debug)]
pub(in crate::api) struct Mint<'a> {
    pub(in crate::api) verb: Verb,
    pub(in crate::api) id: &'a SpiffeId,
    pub(in crate::api) dns_names: &'a [DnsName],
    pub(in crate::api) lifetime: Option<Lifetime>,
}

/// Why no grant allows it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(in crate::api) enum Denied {
    /// Something of it lies outside.
    #[error("outside grant {grant}: {outside}")]
    Outside { grant: GrantName, outside: Outside },
    /// Entries hang below the ID that lie outside.
    #[error(
        "outside grant {grant}: entries outside of it hang below {id}, so that they would change hands; ask an administrator"
    )]
    Below { grant: GrantName, id: SpiffeId },
    /// More hangs below the ID than is looked at.
    #[error("outside grant {grant}: more than {MOST_BELOW} entries hang below {id}; ask an administrator")]
    TooMuchBelow { grant: GrantName, id: SpiffeId },
    /// The ID has power.
    #[error("outside grant {grant}: {id} {power}; ask an administrator")]
    Power {
        grant: GrantName,
        id: SpiffeId,
        power: Power,
    },
    /// An ID that has power hangs below.
    #[error("outside grant {grant}: below {id} hangs an entry whose SPIFFE ID {power}; ask an administrator")]
    PowerBelow {
        grant: GrantName,
        id: SpiffeId,
        power: Power,
    },
    /// The node lies outside.
    #[error("outside grant {grant}: the node {id} lies under none of its parents")]
    Node { grant: GrantName, id: SpiffeId },
    /// The grant has made as many entries as it may.
    #[error("grant {grant} allows {most} entries at a time, which are there; delete some first")]
    Full { grant: GrantName, most: u32 },
    /// The entry that a node's second name becomes is made when the token is redeemed, beside the grant's bounds.
    #[error(
        "grant {grant} bounds lifetimes or entries, and the entry of a node's second name would stand beside that; ask an administrator"
    )]
    Bounded { grant: GrantName },
    /// None of several.
    #[error("no grant of the caller allows it: {}", told(.0))]
    EachOf(Vec<Denied>),
}

/// What an ID can do beside being shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(in crate::api) enum Power {
    /// It administers the server.
    #[error("is an administrator")]
    Admin,
    /// It may have an authority of its own.
    #[error("is a downstream server")]
    Downstream,
    /// It holds a grant itself.
    #[error("holds a grant")]
    Grant,
    /// Its certificate lets a node in, and that node has all that hangs below it, whoever hung it there.
    #[error("proves a node to this server's node attestor {by}, which no grant can give")]
    Node {
        /// The kind of the attestor.
        by: &'static str,
    },
}

impl Planned {
    /// One more will be made by the grant.
    pub(in crate::api) fn add(&mut self, grant: &GrantName) {
        *self.0.entry(grant.clone()).or_default() += 1;
    }

    fn by(&self, grant: &GrantName) -> usize {
        self.0.get(grant).copied().unwrap_or(0)
    }
}

/// The first grant that allows the change of an entry, and the entry as it lets it be.
pub(super) fn entry<'g>(
    grants: &'g [Arc<GrantRecord>],
    surroundings: &Surroundings<'_>,
    planned: &Planned,
    before: Option<&EntrySpec>,
    after: Option<&EntrySpec>,
) -> Result<(&'g Grant, Option<EntrySpec>), Denied> {
    let allowed = first(grants, |grant| {
        let after = after
            .cloned()
            .map(|spec| within_cap(grant, surroundings.lifetimes, spec));
        grant
            .allows(before, after.as_ref())
            .map_err(|outside| Denied::outside(grant, outside))?;
        if moves(before, after.as_ref()) {
            for spec in [before, after.as_ref()].into_iter().flatten() {
                keeps_together(grant, surroundings, &spec.spiffe_id)?;
            }
        }
        if let Some(after) = &after {
            powerless(grant, surroundings, &after.spiffe_id)?;
        }
        if before.is_none()
            && let Some(most) = grant.max_entries
            && surroundings.view.entries_made_by(&grant.name) + planned.by(&grant.name) >= most as usize
        {
            return Err(Denied::Full {
                grant: grant.name.clone(),
                most,
            });
        }
        Ok(after)
    });
    allowed.map(|(held, after)| (&held.grant, after))
}

/// The first grant that allows the signature.
pub(super) fn mint<'g>(
    grants: &'g [Arc<GrantRecord>],
    surroundings: &Surroundings<'_>,
    mint: &Mint<'_>,
) -> Result<&'g Grant, Denied> {
    let allowed = first(grants, |grant| {
        let inside = || {
            grant.needs(mint.verb)?;
            grant.covers_id(mint.id)?;
            mint.dns_names
                .iter()
                .try_for_each(|name| grant.covers_dns_name(name))
        };
        inside().map_err(|outside| Denied::outside(grant, outside))?;
        match powerless(grant, surroundings, mint.id) {
            // Nodes prove themselves by certificates. It is the last power that is looked for: the ID has no other.
            Err(Denied::Power {
                power: Power::Node { .. },
                ..
            }) if mint.verb == Verb::JwtSvidMint => Ok(()),
            decided => decided,
        }
    });
    allowed.map(|(held, ())| &held.grant)
}

/// The first grant that allows a token for the node. Whoever redeems it gets what hangs below the node's ID already, which the caller may have chosen, and what hangs
/// below its second name.
pub(super) fn token<'g>(
    grants: &'g [Arc<GrantRecord>],
    surroundings: &Surroundings<'_>,
    node: &SpiffeId,
    alias: Option<&SpiffeId>,
) -> Result<&'g GrantRecord, Denied> {
    let allowed = first(grants, |grant| {
        let outside = |outside| Denied::outside(grant, outside);
        grant.needs(Verb::TokenCreate).map_err(outside)?;
        if !grant.holds_node(node) {
            return Err(Denied::Node {
                grant: grant.name.clone(),
                id: node.clone(),
            });
        }
        keeps_together(grant, surroundings, node)?;
        powerless(grant, surroundings, node)?;
        let Some(alias) = alias else { return Ok(()) };
        if grant.max_lifetime.is_some() || grant.max_entries.is_some() {
            return Err(Denied::Bounded {
                grant: grant.name.clone(),
            });
        }
        grant.needs(Verb::EntryAlias).map_err(outside)?;
        grant.covers_id(alias).map_err(outside)?;
        keeps_together(grant, surroundings, alias)?;
        powerless(grant, surroundings, alias)
    });
    allowed.map(|(held, ())| held)
}

fn first<T>(
    grants: &[Arc<GrantRecord>],
    allows: impl Fn(&Grant) -> Result<T, Denied>,
) -> Result<(&GrantRecord, T), Denied> {
    let mut reasons = Vec::new();
    for held in grants {
        match allows(&held.grant) {
            Ok(allowed) => return Ok((held, allowed)),
            Err(denied) => reasons.push(denied),
        }
    }
    match reasons.pop() {
        Some(only) if reasons.is_empty() => Err(only),
        last => {
            reasons.extend(last);
            Err(Denied::EachOf(reasons))
        }
    }
}

/// Under a cap each lifetime is written down, no longer than that.
fn within_cap(grant: &Grant, lifetimes: &Lifetimes, mut spec: EntrySpec) -> EntrySpec {
    if grant.max_lifetime.is_some() {
        let x509 = lifetimes.x509(Holder::Workload, spec.x509_svid_ttl);
        let jwt = lifetimes.jwt(spec.jwt_svid_ttl);
        spec.x509_svid_ttl = x509.ok().map(|lifetime| grant.capped(lifetime));
        spec.jwt_svid_ttl = jwt.ok().map(|lifetime| grant.capped(lifetime));
    }
    spec
}

/// Whether a change leads other nodes to the ID, or leads none to it any more.
fn moves(before: Option<&EntrySpec>, after: Option<&EntrySpec>) -> bool {
    match (before, after) {
        (Some(before), Some(after)) => {
            before.spiffe_id != after.spiffe_id
                || before.parent_id != after.parent_id
                // An alias leads to the nodes that have its selectors.
                || (after.is_node_alias() && before.selectors != after.selectors)
        }
        _ => true,
    }
}

/// Everything that hangs below the ID lies inside the grant, and has no power that the grant could not give: whoever gets the ID gets it too.
fn keeps_together(grant: &Grant, surroundings: &Surroundings<'_>, id: &SpiffeId) -> Result<(), Denied> {
    let Some(below) = surroundings.view.below(id, MOST_BELOW) else {
        return Err(Denied::TooMuchBelow {
            grant: grant.name.clone(),
            id: id.clone(),
        });
    };
    // Which ones is not said: what lies outside is not shown.
    if below.iter().any(|found| grant.covers(&found.entry.spec).is_err()) {
        return Err(Denied::Below {
            grant: grant.name.clone(),
            id: id.clone(),
        });
    }
    let mut ids = below.iter().map(|found| &found.entry.spec.spiffe_id);
    match ids.find_map(|id| power_beyond(grant, surroundings, id)) {
        Some(power) => Err(Denied::PowerBelow {
            grant: grant.name.clone(),
            id: id.clone(),
            power,
        }),
        None => Ok(()),
    }
}

/// The ID can do nothing that the grant could not give it.
fn powerless(grant: &Grant, surroundings: &Surroundings<'_>, id: &SpiffeId) -> Result<(), Denied> {
    match power_beyond(grant, surroundings, id) {
        Some(power) => Err(Denied::Power {
            grant: grant.name.clone(),
            id: id.clone(),
            power,
        }),
        None => Ok(()),
    }
}

/// What the ID can do that the grant could not give it.
fn power_beyond(grant: &Grant, surroundings: &Surroundings<'_>, id: &SpiffeId) -> Option<Power> {
    let view = surroundings.view;
    let admin =
        surroundings.admin_ids.contains(id) || (view.is_admin(id) && !grant.verbs.has(Verb::EntryAdmin));
    if admin {
        Some(Power::Admin)
    } else if view.has_downstream(id) && !grant.verbs.has(Verb::EntryDownstream) {
        Some(Power::Downstream)
    } else if view.has_grant(&Subject::Id(id.clone())) {
        Some(Power::Grant)
    } else {
        let taking = surroundings.node_attestors.takes_svid(id.path());
        taking.map(|by| Power::Node { by })
    }
}

impl Denied {
    fn outside(grant: &Grant, outside: Outside) -> Self {
        Self::Outside {
            grant: grant.name.clone(),
            outside,
        }
    }
}

fn told(reasons: &[Denied]) -> String {
    let mut texts: Vec<_> = reasons.iter().take(MOST_REASONS).map(Denied::to_string).collect();
    if reasons.len() > MOST_REASONS {
        texts.push(format!("and {} more", reasons.len() - MOST_REASONS));
    }
    texts.join("; ")
}
