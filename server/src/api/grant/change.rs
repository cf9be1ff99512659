//! Creating, changing and deleting grants.

use muster_audit::{Action, Event, Object, Outcome};
use muster_identity::{Grant, Lifetime, Position, UnixTime};
use muster_proto::{convert, grant as wire};
use tonic::Code;

use super::{name, not_found, to_wire};
use crate::{
    api::{Caller, Context, Refusal},
    registry::{Change, CommitError, GrantRecord, View, grants},
};

/// The most grants of one server: each is a person's or program's, and lists of them are made anew at each change.
const MOST: usize = 1_000;
/// The most of one subject: all of them are asked at each of its calls.
const MOST_OF_SUBJECT: usize = 16;

/// Creates a grant.
pub(super) async fn create(
    context: &Context,
    caller: &Caller,
    grant: Option<&wire::Grant>,
) -> Result<wire::Grant, Refusal> {
    let _turn = context.one_at_a_time.turn().await;
    let asked = grant.map(|grant| grant.name.as_str()).unwrap_or_default();
    let created = async {
        let grant = read(context, grant)?;
        let view = context.registry.view();
        if view.grant(&grant.name).is_some() {
            let text = format!("a grant named {} exists already", grant.name);
            return Err(Refusal::new(Code::AlreadyExists, text));
        }
        if view.grant_count() >= MOST {
            let text = format!("there are {MOST} grants, which is the most");
            return Err(Refusal::new(Code::ResourceExhausted, text));
        }
        if view.grants_of(&grant.subject).count() >= MOST_OF_SUBJECT {
            let text = format!(
                "subject: {} holds {MOST_OF_SUBJECT} grants, which is the most",
                grant.subject
            );
            return Err(Refusal::new(Code::ResourceExhausted, text));
        }
        let position = commit(context, grants::create(&grant, context.clock.now())).await?;
        Ok((grant, position))
    };
    let done = created.await;
    answer(context, caller, Action::GrantCreate, asked, done).await
}

/// Puts a grant in the place of the one of its name.
pub(super) async fn update(
    context: &Context,
    caller: &Caller,
    request: &wire::UpdateRequest,
) -> Result<wire::Grant, Refusal> {
    let _turn = context.one_at_a_time.turn().await;
    let wire = request.grant.as_ref();
    let asked = wire.map(|grant| grant.name.as_str()).unwrap_or_default();
    let updated = async {
        let grant = read(context, wire)?;
        let view = context.registry.view();
        let current = view.grant(&grant.name).ok_or_else(not_found)?;
        if grant.subject != current.grant.subject {
            let text = format!(
                "subject: grant {} is of {}, and stays so; delete it and create another",
                grant.name, current.grant.subject
            );
            return Err(Refusal::invalid(text));
        }
        if ![0, current.version.0].contains(&request.expected_version) {
            let text = "expected_version: the grant was changed since it was read; read it again";
            return Err(Refusal::new(Code::Aborted, text));
        }
        let position = commit(context, grants::update(current, &grant)).await?;
        Ok((grant, position))
    };
    let done = updated.await;
    answer(context, caller, Action::GrantUpdate, asked, done).await
}

/// Deletes a grant.
pub(super) async fn delete(context: &Context, caller: &Caller, asked: &str) -> Result<(), Refusal> {
    let _turn = context.one_at_a_time.turn().await;
    let deleted = async {
        let name = name(asked)?;
        let view = context.registry.view();
        let current: &GrantRecord = view.grant(&name).ok_or_else(not_found)?;
        let position = commit(context, grants::delete(current)).await?;
        Ok((current.grant.clone(), position))
    };
    let event =
        |outcome| Event::new(caller.actor(), Action::GrantDelete, outcome).object(Object::grant(asked));
    match deleted.await {
        Ok((grant, position)) => {
            tracing::info!(grant = %grant.name, subject = %grant.subject, "grant deleted");
            let event = event(Outcome::Done)
                .position(position)
                .fact("subject", &grant.subject);
            context.record(event).await
        }
        Err(refusal) => Err(context.refused(refusal, event).await),
    }
}

fn read(context: &Context, wire: Option<&wire::Grant>) -> Result<Grant, Refusal> {
    let grant = convert::grant(wire.ok_or_else(|| Refusal::invalid("grant: is missing"))?)?;
    grant
        .check(&context.trust_domain)
        .map_err(|error| Refusal::invalid(error.to_string()))?;
    Ok(grant)
}

async fn commit(context: &Context, changes: Vec<Change>) -> Result<Position, Refusal> {
    match context.registry.commit(changes).await {
        Ok(position) => Ok(position),
        // Only another server's change comes between: here they go one at a time.
        Err(CommitError::Conflict(_)) => Err(Refusal::new(
            Code::Aborted,
            "the grant is being changed by others; read it again and try again",
        )),
        Err(error) => Err(error.into()),
    }
}

/// Records what was done, whole: an auditor must be able to say what anybody was allowed at any time.
async fn answer(
    context: &Context,
    caller: &Caller,
    action: Action,
    asked: &str,
    done: Result<(Grant, Position), Refusal>,
) -> Result<wire::Grant, Refusal> {
    let event = |outcome| Event::new(caller.actor(), action, outcome).object(Object::grant(asked));
    let (grant, position) = match done {
        Ok(done) => done,
        Err(refusal) => return Err(context.refused(refusal, event).await),
    };
    tracing::info!(grant = %grant.name, subject = %grant.subject, action = ?action, "grant changed");
    let wire = convert::grant_to_wire(&grant);
    let event = event(Outcome::Done)
        .position(position)
        .fact("subject", &grant.subject)
        .fact_list("verbs", &wire.verbs)
        .fact_list("paths", &wire.paths)
        .fact_list("parents", &wire.parents)
        .fact_list("selector_types", &wire.selector_types)
        .fact_list("dns_domains", &wire.dns_domains);
    let bounds = [
        (
            "max_lifetime",
            grant.max_lifetime.map(Lifetime::as_secs).map(i64::from),
        ),
        ("max_entries", grant.max_entries.map(i64::from)),
        ("expires_at", grant.expires_at.map(UnixTime::as_secs)),
    ];
    let event = bounds
        .into_iter()
        .fold(event, |event, (name, bound)| match bound {
            Some(bound) => event.fact(name, bound),
            None => event,
        });
    context.record(event).await?;
    let view: std::sync::Arc<View> = context.registry.view();
    let made = view.grant(&grant.name).map(|record| to_wire(&view, record));
    Ok(made.unwrap_or(wire))
}
