//! Batches of changes to entries. Each item is done or refused alone; all that can be done share one write to the disk.

use muster_audit::{Action, Event, Object, Outcome};
use muster_identity::{Entry, EntryId, EntrySpec, Position};
use muster_proto::{convert, spire::types};
use tonic::Code;

use crate::{
    api::{Caller, Context, Refusal},
    ca::Holder,
    registry::{Change, CommitError, Tree, View, entries as registered_entries},
};

/// How often an item is tried when others change the same entry at the same time.
const TRIES: usize = 4;

/// What became of an item.
pub(super) struct Item {
    pub(super) status: types::Status,
    /// The entry as it is now; with AlreadyExists, the one that exists.
    pub(super) entry: Option<Entry>,
}

/// An item that is to be done.
struct Order {
    id: EntryId,
    /// As it will be; none: it goes.
    entry: Option<Entry>,
    changes: Vec<Change>,
}

/// An item that was refused, and the entry that stands in its way.
struct Refused {
    refusal: Refusal,
    existing: Option<Box<Entry>>,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self {
            refusal,
            existing: None,
        }
    }
}

/// Creates entries.
pub(super) async fn create(
    context: &Context,
    caller: &Caller,
    entries: &[types::Entry],
) -> Result<Vec<Item>, Refusal> {
    let now = context.clock.now();
    let plan = |view: &View, wire: &types::Entry| -> Result<Order, Refused> {
        let (id, spec) = convert::new_entry(wire).map_err(Refusal::from)?;
        let spec = checked(context, view, spec)?;
        let id = match id {
            Some(id) => id,
            None => uuid::Uuid::new_v4()
                .to_string()
                .parse()
                .expect("a UUID is an entry id"),
        };
        let entry = Entry {
            id,
            spec,
            revision_number: 0,
            created_at: now,
        };
        let changes = registered_entries::create(&entry);
        Ok(Order {
            id: entry.id.clone(),
            entry: Some(entry),
            changes,
        })
    };
    run(context, caller, Action::EntryCreate, entries, plan).await
}

/// Replaces what the mask names of entries.
pub(super) async fn update(
    context: &Context,
    caller: &Caller,
    entries: &[types::Entry],
    mask: Option<&types::EntryMask>,
) -> Result<Vec<Item>, Refusal> {
    let plan = |view: &View, wire: &types::Entry| -> Result<Order, Refused> {
        let id = convert::entry_id("id", &wire.id).map_err(Refusal::from)?;
        let old = view
            .entry(&id)
            .ok_or_else(|| Refusal::not_found("entry not found"))?;
        let spec = convert::merge_entry(&old.entry.spec, wire, mask).map_err(Refusal::from)?;
        let spec = checked(context, view, spec)?;
        let (entry, changes) = registered_entries::update(old, spec);
        Ok(Order {
            id,
            entry: Some(entry),
            changes,
        })
    };
    run(context, caller, Action::EntryUpdate, entries, plan).await
}

/// Deletes entries.
pub(super) async fn delete(context: &Context, caller: &Caller, ids: &[String]) -> Result<Vec<Item>, Refusal> {
    let plan = |view: &View, id: &String| -> Result<Order, Refused> {
        let id = convert::entry_id("id", id).map_err(Refusal::from)?;
        let old = view
            .entry(&id)
            .ok_or_else(|| Refusal::not_found("entry not found"))?;
        Ok(Order {
            id,
            entry: None,
            changes: registered_entries::delete(old),
        })
    };
    run(context, caller, Action::EntryDelete, ids, plan).await
}

/// What neither the single fields nor the entry alone can say: whether this server may have it so.
fn checked(context: &Context, view: &View, mut spec: EntrySpec) -> Result<EntrySpec, Refusal> {
    spec.check(&context.trust_domain)
        .map_err(|error| Refusal::invalid(error.to_string()))?;
    context
        .wildcards
        .check(spec.dns_names.iter())
        .map_err(|error| Refusal::invalid(format!("dns_names: {error}")))?;
    for other in spec.federates_with.iter() {
        if view.document(Tree::Bundles, other.as_str().as_bytes()).is_none() {
            return Err(Refusal::invalid(format!(
                "federates_with: unable to find federated bundle {other:?}; set it first"
            )));
        }
    }
    // Cut here and not only at the signature, so that whoever reads the entry sees what holds.
    if spec.x509_svid_ttl.is_some() {
        let allowed = context.ca.lifetimes().x509(Holder::Workload, spec.x509_svid_ttl);
        spec.x509_svid_ttl =
            Some(allowed.map_err(|error| Refusal::invalid(format!("x509_svid_ttl: {error}")))?);
    }
    if spec.jwt_svid_ttl.is_some() {
        let allowed = context.ca.lifetimes().jwt(spec.jwt_svid_ttl);
        spec.jwt_svid_ttl =
            Some(allowed.map_err(|error| Refusal::invalid(format!("jwt_svid_ttl: {error}")))?);
    }
    Ok(spec)
}

/// Plans, commits and records each item; plans again what lost a race.
async fn run<T>(
    context: &Context,
    caller: &Caller,
    action: Action,
    items: &[T],
    plan: impl Fn(&View, &T) -> Result<Order, Refused> + Sync,
) -> Result<Vec<Item>, Refusal>
where
    T: Sync,
{
    let mut done: Vec<Option<Item>> = items.iter().map(|_| None).collect();
    let mut open: Vec<usize> = (0..items.len()).collect();
    let mut events = vec![];
    for tries_left in (0..TRIES).rev() {
        let view = context.registry.view();
        let mut orders = vec![];
        for index in std::mem::take(&mut open) {
            match plan(&view, &items[index]) {
                Ok(order) => orders.push((index, order)),
                Err(refused) => {
                    events.push(refusal_event(caller, action, &refused));
                    done[index] = Some(refused.into());
                }
            }
        }
        let groups = orders
            .iter_mut()
            .map(|(_, order)| std::mem::take(&mut order.changes))
            .collect();
        let outcomes = context.registry.commit_each(groups).await;
        let view = context.registry.view();
        for ((index, order), outcome) in orders.into_iter().zip(outcomes) {
            match outcome {
                Ok(position) => {
                    events.push(done_event(caller, action, &order, position));
                    done[index] = Some(Item {
                        status: convert::item_ok(),
                        entry: order.entry,
                    });
                }
                Err(error) => match refused(&view, &order, error) {
                    None if tries_left > 0 => open.push(index),
                    refused => {
                        let refused = refused.unwrap_or_else(|| raced().into());
                        events.push(refusal_event(caller, action, &refused));
                        done[index] = Some(refused.into());
                    }
                },
            }
        }
        if open.is_empty() {
            break;
        }
    }
    context.audit.record_all(events).await?;
    Ok(done
        .into_iter()
        .map(|item| item.expect("each item was done or refused above"))
        .collect())
}

/// Why the commit of an item failed; none: it lost a race and may be planned again.
fn refused(view: &View, order: &Order, error: CommitError) -> Option<Refused> {
    let CommitError::Conflict(conflict) = &error else {
        return Some(Refusal::from(error).into());
    };
    let entry = order.entry.as_ref()?;
    let created = entry.revision_number == 0;
    match registered_entries::similar(view, &entry.spec) {
        Some(existing) if created || existing.entry.id != entry.id => Some(Refused {
            refusal: Refusal::new(Code::AlreadyExists, "similar entry already exists"),
            existing: Some(Box::new(existing.entry.clone())),
        }),
        None if created && conflict.key.tree == Tree::Entries => {
            let text = format!(
                "failed to create entry: an entry with id {} exists and is not similar",
                entry.id
            );
            Some(Refusal::new(Code::AlreadyExists, text).into())
        }
        _ => None,
    }
}

fn raced() -> Refusal {
    Refusal::new(
        Code::Aborted,
        "the entry is being changed by others; read it again and try again",
    )
}

impl From<Refused> for Item {
    fn from(refused: Refused) -> Self {
        Self {
            status: refused.refusal.into_item(),
            entry: refused.existing.map(|entry| *entry),
        }
    }
}

fn done_event(caller: &Caller, action: Action, order: &Order, position: Position) -> Event {
    let event = Event::new(caller.actor(), action, Outcome::Done)
        .object(Object::entry(&order.id))
        .position(position);
    let Some(entry) = &order.entry else { return event };
    let spec = &entry.spec;
    let event = event
        .fact("spiffe_id", &spec.spiffe_id)
        .fact("parent_id", &spec.parent_id)
        .fact_list("selectors", spec.selectors.iter())
        .fact("revision_number", entry.revision_number);
    let flags = [("admin", spec.admin), ("downstream", spec.downstream)];
    flags
        .into_iter()
        .filter(|(_, set)| *set)
        .fold(event, |event, (name, _)| event.fact(name, true))
}

fn refusal_event(caller: &Caller, action: Action, refused: &Refused) -> Event {
    let refusal = &refused.refusal;
    let event = Event::new(caller.actor(), action, Outcome::refused(refusal.message()))
        .reference(refusal.reference());
    match &refused.existing {
        Some(existing) => event.object(Object::entry(&existing.id)),
        None => event,
    }
}
