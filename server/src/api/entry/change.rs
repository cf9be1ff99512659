//! Batches of changes to entries. Each item is done or refused alone; all that can be done share one write to the disk.

use muster_audit::{Action, Event, Object, Outcome};
use muster_identity::{Entry, EntryId, GrantName, Position};
use muster_proto::{convert, spire::types};
use tonic::Code;

use super::ground::{Ground, checked, malformed};
use crate::{
    api::{
        Caller, Context, Refusal, Role,
        limits::Limited,
        scope::{Planned, Scope, grants_ended},
    },
    registry::{Change, CommitError, Tree, View, entries as registered_entries},
};

/// How often an item is tried when others change the same entry at the same time.
const TRIES: usize = 4;

/// The most items of a batch by a grant. While it is decided, no other grant's change is.
const AT_ONCE: usize = 500;

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
    /// The grant that allows it, if the caller needs one.
    grant: Option<GrantName>,
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
    let plan = |ground: &mut Ground<'_>, wire: &types::Entry| -> Result<Order, Refused> {
        let (id, spec) = convert::new_entry(wire).map_err(malformed)?;
        let spec = checked(context, ground.view, spec, &[])?;
        let (spec, grant) = ground.allowed(context, None, spec)?;
        if let Some(grant) = &grant {
            ground.planned.add(grant);
        }
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
        let changes = registered_entries::create_by(&entry, grant.as_ref());
        Ok(Order {
            id: entry.id.clone(),
            entry: Some(entry),
            changes,
            grant,
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
    let plan = |ground: &mut Ground<'_>, wire: &types::Entry| -> Result<Order, Refused> {
        let id = super::known_id(&wire.id)?;
        let old = ground.known(&id)?;
        let spec = convert::merge_entry(&old.entry.spec, wire, mask).map_err(malformed)?;
        let spec = checked(context, ground.view, spec, &old.entry.spec.federates_with)?;
        let (spec, grant) = ground.allowed(context, Some(&old.entry.spec), spec)?;
        let (entry, changes) = registered_entries::update(old, spec);
        Ok(Order {
            id,
            entry: Some(entry),
            changes,
            grant,
        })
    };
    run(context, caller, Action::EntryUpdate, entries, plan).await
}

/// Deletes entries.
pub(super) async fn delete(context: &Context, caller: &Caller, ids: &[String]) -> Result<Vec<Item>, Refusal> {
    let plan = |ground: &mut Ground<'_>, id: &String| -> Result<Order, Refused> {
        if id.is_empty() {
            return Err(Refusal::invalid("missing entry ID").into());
        }
        let id = super::known_id(id)?;
        let old = ground.known(&id)?;
        let surroundings = context.surroundings(ground.view);
        let decided = ground
            .scope
            .entry(&surroundings, &ground.planned, Some(&old.entry.spec), None);
        let (_, grant) = decided.map_err(Refusal::from)?;
        Ok(Order {
            id,
            entry: None,
            changes: registered_entries::delete(old),
            grant,
        })
    };
    run(context, caller, Action::EntryDelete, ids, plan).await
}

/// Plans, commits and records each item; plans again what lost a race.
async fn run<T>(
    context: &Context,
    caller: &Caller,
    action: Action,
    items: &[T],
    plan: impl Fn(&mut Ground<'_>, &T) -> Result<Order, Refused> + Sync,
) -> Result<Vec<Item>, Refusal>
where
    T: Sync,
{
    let _turn = match caller.role() {
        Role::Granted => {
            if items.len() > AT_ONCE {
                let text = format!("more than {AT_ONCE} entries in one call by a grant; send them in parts");
                return Err(Refusal::new(Code::ResourceExhausted, text));
            }
            context.limits.wait(Limited::Change, caller, items.len()).await?;
            Some(context.one_at_a_time.turn().await)
        }
        _ => None,
    };
    let mut done: Vec<Option<Item>> = items.iter().map(|_| None).collect();
    let mut open: Vec<usize> = (0..items.len()).collect();
    let mut events = vec![];
    for tries_left in (0..TRIES).rev() {
        let view = context.registry.view();
        let mut orders = vec![];
        let Ok(scope) = context.scope(caller, &view) else {
            // What was done by an earlier try is done, and is recorded below.
            for index in std::mem::take(&mut open) {
                let refused = Refused::from(grants_ended());
                events.push(refusal_event(caller, action, &refused));
                done[index] = Some(refused.into());
            }
            break;
        };
        let mut ground = Ground {
            view: &view,
            scope,
            planned: Planned::default(),
        };
        for index in std::mem::take(&mut open) {
            match plan(&mut ground, &items[index]) {
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
                Err(error) => match refused(&view, &ground.scope, &order, error) {
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
fn refused(view: &View, scope: &Scope, order: &Order, error: CommitError) -> Option<Refused> {
    let CommitError::Conflict(conflict) = &error else {
        return Some(Refusal::from(error).into());
    };
    let entry = order.entry.as_ref()?;
    let created = entry.revision_number == 0;
    match registered_entries::similar(view, &entry.spec) {
        Some(existing) if created || existing.entry.id != entry.id => Some(Refused {
            refusal: Refusal::new(Code::AlreadyExists, "similar entry already exists"),
            existing: scope
                .shows(&existing.entry.spec)
                .then(|| Box::new(existing.entry.clone())),
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
    let event = order
        .grant
        .iter()
        .fold(event, |event, grant| event.fact("grant", grant));
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
