//! Join tokens for administrators.

use std::time::Duration;

use muster_audit::{Action, Event, Object, Outcome};
use muster_identity::Verb;
use muster_proto::convert;
use muster_proto::spire::server::agent::CreateJoinTokenRequest;
use muster_proto::spire::types;
use tonic::Code;

use crate::api::limits::Limited;
use crate::api::{Caller, Context, Refusal, Role};
use crate::nodes;
use crate::registry::{CommitError, TokenHash};

/// The shortest token that may be chosen by the caller. Shorter ones can be guessed.
const SHORTEST: usize = 8;

/// The longest that a token by a grant lives: whoever it is for is waiting, and the grant may end before.
const LONGEST_BY_GRANT: Duration = Duration::from_secs(600);

/// Creates a token. The log and the audit log get its hash; the answer alone has the token.
pub(super) async fn create(
    context: &Context,
    caller: &Caller,
    request: CreateJoinTokenRequest,
) -> Result<types::JoinToken, Refusal> {
    match created(context, caller, request).await {
        Ok((token, event)) => {
            context
                .record(event(Event::new(
                    caller.actor(),
                    Action::TokenCreate,
                    Outcome::Done,
                )))
                .await?;
            Ok(token)
        }
        Err(refusal) => {
            let event = |outcome| Event::new(caller.actor(), Action::TokenCreate, outcome);
            Err(context.refused(refusal, event).await)
        }
    }
}

async fn created(
    context: &Context,
    caller: &Caller,
    request: CreateJoinTokenRequest,
) -> Result<(types::JoinToken, impl FnOnce(Event) -> Event + use<>), Refusal> {
    let ttl = u64::try_from(request.ttl).ok().filter(|ttl| *ttl > 0);
    let ttl =
        ttl.ok_or_else(|| Refusal::invalid("ttl is required, you must provide one of at least 1 second"))?;
    let agent_id = match &request.agent_id {
        None => None,
        Some(_) => {
            let id = convert::spiffe_id("agent_id", request.agent_id.as_ref())?;
            if !id.is_member_of(&context.trust_domain) || id.is_trust_domain_id() || id.path().is_reserved() {
                let text = format!(
                    "agent_id: {id} is not the ID of a workload in {}",
                    context.trust_domain
                );
                return Err(Refusal::invalid(text));
            }
            Some(id)
        }
    };
    let value = match request.token.as_str() {
        "" => nodes::token_text().map_err(|_| Refusal::internal("no random numbers"))?,
        chosen => chosen.to_owned(),
    };
    let id = nodes::node_id(&context.trust_domain, &value).filter(|_| value.len() >= SHORTEST);
    let id = id.ok_or_else(|| {
        Refusal::invalid(
            "token: 8 to 255 letters, digits, dots, dashes and underscores are allowed; or leave it out",
        )
    })?;
    let _turn = match caller.role() {
        Role::Granted => {
            context.limits.wait(Limited::Change, caller, 1).await?;
            Some(context.one_at_a_time.turn().await)
        }
        _ => None,
    };
    let view = context.registry.view();
    let scope = context.scope_for(caller, &view, Verb::TokenCreate)?;
    let by = scope.token(&context.surroundings(&view), &id, agent_id.as_ref())?;
    if view.node(&id).is_some() {
        return Err(Refusal::new(
            Code::AlreadyExists,
            "the token was already redeemed by a node",
        ));
    }
    let now = context.clock.now();
    let mut expires_at = now.saturating_add(Duration::from_secs(ttl));
    if let Some((_, ends)) = &by {
        expires_at = expires_at.min(now.saturating_add(LONGEST_BY_GRANT));
        expires_at = ends.map_or(expires_at, |ends| expires_at.min(ends));
    }
    let by = by.map(|(grant, _)| grant);
    let changes = nodes::new_token(&value, expires_at, agent_id.as_ref(), by.as_ref());
    let position = match context.registry.commit(changes).await {
        Ok(position) => position,
        Err(CommitError::Conflict(_)) => {
            return Err(Refusal::new(Code::AlreadyExists, "the token exists already"));
        }
        Err(error) => return Err(error.into()),
    };
    // Half of the hash names the token to people; nobody can redeem it by that.
    let hash = TokenHash::of(&value);
    let name: String = hash.as_bytes()[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let event = move |event: Event| {
        let event = event
            .object(Object::token(name))
            .position(position)
            .fact("expires_at", expires_at);
        let event = match by {
            Some(grant) => event.fact("grant", grant.name),
            None => event,
        };
        match agent_id {
            Some(id) => event.fact("agent_id", id),
            None => event,
        }
    };
    Ok((
        types::JoinToken {
            value,
            expires_at: expires_at.as_secs(),
        },
        event,
    ))
}
