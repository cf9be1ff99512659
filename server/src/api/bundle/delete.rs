//! Deleting bundles of other trust domains, and what becomes of the entries that federate with them.

use std::sync::Arc;

use muster_audit::{Action, Event, Object, Outcome};
use muster_identity::TrustDomain;
use muster_proto::convert;
use muster_proto::spire::server::bundle::batch_delete_federated_bundle_request::Mode;
use muster_proto::spire::types;
use tonic::Code;

use crate::api::{Caller, Context, Refusal};
use crate::registry::{Change, CommitError, Expect, Registered, Tree, View, entries};

/// How many entries go into one turn of the queue: other callers' changes go between two.
const AT_ONCE: usize = 500;
/// How often it is looked again whether entries still federate; new ones may come meanwhile.
const TURNS: usize = 1_000;

/// Deletes bundles, one after the other.
pub(super) async fn delete(
    context: &Context,
    caller: &Caller,
    mode: Mode,
    names: &[String],
) -> Vec<types::Status> {
    let mut statuses = Vec::with_capacity(names.len());
    for name in names {
        let event = |outcome| {
            Event::new(caller.actor(), Action::BundleDelete, outcome)
                .object(Object::bundle(name))
                .fact("mode", mode.as_str_name())
        };
        let deleted = match delete_one(context, caller, mode, name).await {
            Ok(()) => context.record(event(Outcome::Done)).await,
            Err(refusal) => Err(context.refused(refusal, event).await),
        };
        statuses.push(match deleted {
            Ok(()) => convert::item_ok(),
            Err(refusal) => refusal.into_item(),
        });
    }
    statuses
}

async fn delete_one(context: &Context, caller: &Caller, mode: Mode, name: &str) -> Result<(), Refusal> {
    let name = convert::trust_domain("trust_domain", name)?;
    if name == context.trust_domain {
        return Err(Refusal::invalid(
            "trust_domain: removing the bundle for the server trust domain is not allowed",
        ));
    }
    for _ in 0..TURNS {
        let view = context.registry.view();
        let Some(held) = view.document(Tree::Bundles, name.as_str().as_bytes()) else {
            return Err(Refusal::not_found("bundle not found"));
        };
        let still = federating(&view, &name)
            .take(AT_ONCE)
            .cloned()
            .collect::<Vec<_>>();
        if still.is_empty() {
            let delete = Change::delete(Tree::Bundles, name.as_str().as_bytes(), Expect::At(held.version));
            match context.registry.commit(vec![delete]).await {
                Ok(_) => {
                    context.bundles.refresh(&context.registry.view())?;
                    return Ok(());
                }
                Err(CommitError::Conflict(_)) => continue,
                Err(error) => return Err(error.into()),
            }
        }
        match mode {
            Mode::Restrict => {
                let count = federating(&view, &name).count();
                return Err(Refusal::new(
                    Code::FailedPrecondition,
                    format!("cannot delete bundle; federated with {count} registration entries"),
                ));
            }
            Mode::Delete => {
                let_go(context, caller, Action::EntryDelete, &still, |entry| {
                    entries::delete(entry)
                })
                .await?;
            }
            Mode::Dissociate => {
                let_go(context, caller, Action::EntryUpdate, &still, |entry| {
                    let mut spec = entry.entry.spec.clone();
                    spec.federates_with = spec
                        .federates_with
                        .iter()
                        .filter(|other| **other != name)
                        .cloned()
                        .collect();
                    entries::update(entry, spec).1
                })
                .await?;
            }
        }
    }
    Err(Refusal::new(
        Code::Aborted,
        "entries that federate with it are created faster than they are let go",
    ))
}

/// The entries that federate with a trust domain.
fn federating<'a>(view: &'a View, name: &'a TrustDomain) -> impl Iterator<Item = &'a Arc<Registered>> {
    view.entries()
        .filter(move |registered| registered.entry.spec.federates_with.contains(name))
}

/// Changes entries, each for itself; one that somebody else changed is seen again in the next turn.
async fn let_go(
    context: &Context,
    caller: &Caller,
    action: Action,
    federating: &[Arc<Registered>],
    change: impl Fn(&Registered) -> Vec<Change>,
) -> Result<(), Refusal> {
    let groups = federating.iter().map(|entry| change(entry)).collect();
    let outcomes = context.registry.commit_each(groups).await;
    let mut events = Vec::new();
    let mut failure = None;
    for (entry, outcome) in federating.iter().zip(outcomes) {
        match outcome {
            Ok(position) => events.push(
                Event::new(caller.actor(), action, Outcome::Done)
                    .object(Object::entry(&entry.entry.id))
                    .position(position)
                    .fact("spiffe_id", &entry.entry.spec.spiffe_id),
            ),
            Err(CommitError::Conflict(_)) => {}
            Err(error) => failure = Some(error),
        }
    }
    context.audit.record_all(events).await?;
    failure.map_or(Ok(()), |error| Err(error.into()))
}
