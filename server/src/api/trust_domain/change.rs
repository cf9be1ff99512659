//! Batches of changes to relationships. Each item is done or refused alone.

use muster_audit::{Action, Event, Object, Outcome};
use muster_identity::TrustDomain;
use muster_proto::convert;
use muster_proto::spire::types::{self, FederationRelationship, FederationRelationshipMask};
use tonic::Code;

use crate::api::bundle::{Put, put_change};
use crate::api::{Caller, Context, Refusal};
use crate::federation::{MOST_PEERS, Relationship, recorded};
use crate::registry::{CommitError, View};
use crate::store::{Change, Expect, Tree};

/// How often an item is tried when others change the same relationship at the same time.
const TRIES: usize = 4;

type Item = (types::Status, Option<Relationship>);

pub(super) async fn create(
    context: &Context,
    caller: &Caller,
    wires: &[FederationRelationship],
) -> Vec<Item> {
    let mut items = Vec::with_capacity(wires.len());
    for wire in wires {
        let plan = |view: &View| -> Result<Plan, Refusal> {
            let mut relationship = Relationship::from_wire(wire)?;
            if relationship.trust_domain == context.trust_domain {
                return Err(Refusal::invalid(
                    "trust_domain: unable to create federation relationship for server trust domain",
                ));
            }
            let name = relationship.trust_domain.clone();
            match recorded(view, &name) {
                Some(there) if there.source.is_some() => {
                    return Err(Refusal::new(
                        Code::AlreadyExists,
                        "federation relationship already exists",
                    ));
                }
                // What was revoked or narrowed before stays so.
                Some(there) => {
                    relationship.scope = there.scope;
                    relationship.revoked_at = there.revoked_at;
                }
                None if view.document_count(Tree::Relationships) >= MOST_PEERS => {
                    return Err(Refusal::new(
                        Code::ResourceExhausted,
                        format!("there are {MOST_PEERS} relationships, and no more are kept"),
                    ));
                }
                None => {}
            }
            Plan::put(context, view, relationship, wire.trust_domain_bundle.as_ref())
        };
        items.push(run(context, caller, Action::FederationCreate, wire, plan).await);
    }
    items
}

pub(super) async fn update(
    context: &Context,
    caller: &Caller,
    wires: &[FederationRelationship],
    mask: Option<&FederationRelationshipMask>,
) -> Vec<Item> {
    let mut items = Vec::with_capacity(wires.len());
    for wire in wires {
        let plan = |view: &View| -> Result<Plan, Refusal> {
            let name = convert::trust_domain("trust_domain", &wire.trust_domain)?;
            let there = recorded(view, &name).filter(|there| there.source.is_some());
            let there =
                there.ok_or_else(|| absent(context, &name, "federation relationship does not exist"))?;
            let bundle = wire.trust_domain_bundle.as_ref();
            let bundle = bundle.filter(|_| mask.is_none_or(|mask| mask.trust_domain_bundle));
            Plan::put(context, view, there.updated(wire, mask)?, bundle)
        };
        items.push(run(context, caller, Action::FederationUpdate, wire, plan).await);
    }
    items
}

/// Ends relationships: the peer is not asked any more, and its bundle goes with it (Federation 6.3). Entries keep its name, which then means nothing.
pub(super) async fn delete(context: &Context, caller: &Caller, names: &[String]) -> Vec<types::Status> {
    let mut statuses = Vec::with_capacity(names.len());
    for name in names {
        let wire = FederationRelationship {
            trust_domain: name.clone(),
            ..FederationRelationship::default()
        };
        let plan = |view: &View| -> Result<Plan, Refusal> {
            let name = convert::trust_domain("trust_domain", name)?;
            let there = recorded(view, &name).filter(|there| there.source.is_some());
            let there = there.ok_or_else(|| absent(context, &name, "federation relationship not found"))?;
            let key = name.as_str().as_bytes();
            let expect = version(view, &name);
            if context.federation.peers().is_configured(&name) {
                // The configuration's relationship stays, and what holds it back with it.
                let rest = Relationship {
                    source: None,
                    ..there.clone()
                };
                let put = Change::put(Tree::Relationships, key, rest.to_bytes(), expect);
                return Ok(Plan {
                    relationship: there,
                    changes: vec![put],
                });
            }
            Ok(Plan {
                relationship: there,
                changes: vec![
                    Change::delete(Tree::Relationships, key, expect),
                    Change::delete(Tree::Bundles, key, Expect::Any),
                ],
            })
        };
        let (status, _) = run(context, caller, Action::FederationDelete, &wire, plan).await;
        statuses.push(status);
    }
    statuses
}

/// What an item comes to.
struct Plan {
    relationship: Relationship,
    changes: Vec<Change>,
}

impl Plan {
    fn put(
        context: &Context,
        view: &View,
        relationship: Relationship,
        bundle: Option<&types::Bundle>,
    ) -> Result<Self, Refusal> {
        let name = &relationship.trust_domain;
        let key = name.as_str().as_bytes();
        let expect = version(view, name);
        let mut changes = vec![Change::put(
            Tree::Relationships,
            key,
            relationship.to_bytes(),
            expect,
        )];
        if let Some(bundle) = bundle {
            let of = convert::trust_domain("trust_domain_bundle.trust_domain", &bundle.trust_domain)?;
            if of != *name {
                return Err(Refusal::invalid(format!(
                    "trust domain bundle (\"{of}\") must match the trust domain of the federation relationship (\"{name}\")"
                )));
            }
            crate::api::bundle::not_revoked(context, view, name)?;
            changes.push(put_change(view, Put::Set, name, bundle, None)?.1);
        }
        Ok(Self {
            relationship,
            changes,
        })
    }
}

/// There is no relationship of the API's making; one of the configuration's is not there for it.
fn absent(context: &Context, name: &TrustDomain, words: &str) -> Refusal {
    if context.federation.peers().is_configured(name) {
        Refusal::not_found(format!(
            "{words}: the one with {name} stands in the configuration, and is changed there"
        ))
    } else {
        Refusal::not_found(words)
    }
}

fn version(view: &View, name: &TrustDomain) -> Expect {
    let held = view.document(Tree::Relationships, name.as_str().as_bytes());
    held.map_or(Expect::Absent, |held| Expect::At(held.version))
}

async fn run(
    context: &Context,
    caller: &Caller,
    action: Action,
    wire: &FederationRelationship,
    plan: impl Fn(&View) -> Result<Plan, Refusal>,
) -> Item {
    let event = |outcome| {
        let event =
            Event::new(caller.actor(), action, outcome).object(Object::federation(&wire.trust_domain));
        match wire.bundle_endpoint_url.as_str() {
            "" => event,
            url => event.fact("url", url),
        }
    };
    let done = match commit(context, plan).await {
        Ok(relationship) => context.record(event(Outcome::Done)).await.map(|()| relationship),
        Err(refusal) => Err(context.refused(refusal, event).await),
    };
    match done {
        Ok(relationship) => (convert::item_ok(), Some(relationship)),
        Err(refusal) => (refusal.into_item(), None),
    }
}

async fn commit(
    context: &Context,
    plan: impl Fn(&View) -> Result<Plan, Refusal>,
) -> Result<Relationship, Refusal> {
    let mut tries = 0;
    loop {
        let Plan {
            relationship,
            changes,
        } = plan(&context.registry.view())?;
        tries += 1;
        match context.registry.commit(changes).await {
            Ok(_) => {
                context.bundles.refresh(&context.registry.view())?;
                return Ok(relationship);
            }
            Err(CommitError::Conflict(_)) if tries < TRIES => {}
            Err(error) => return Err(error.into()),
        }
    }
}
