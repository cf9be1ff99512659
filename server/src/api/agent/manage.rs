//! What becomes of nodes that are in.

use std::sync::Arc;

use muster_audit::{Action, Event, Object, Outcome};
use muster_identity::Verb;
use muster_proto::convert;
use muster_proto::spire::types;
use tonic::Code;

use crate::api::scope::Scope;
use crate::api::{Caller, Context, Refusal, Role};
use crate::nodes;
use crate::registry::{Change, CommitError, NodeRecord, View};

/// The longest version that an agent may say it has, as with SPIRE.
const LONGEST_VERSION: usize = 255;
const TRIES: usize = 4;

/// The node of that ID, if the caller may do `verb` to it. One outside of his grants and one that is not there are not told apart.
pub(super) fn find(
    view: &View,
    scope: &Scope,
    verb: Verb,
    id: Option<&types::Spiffeid>,
) -> Result<Arc<NodeRecord>, Refusal> {
    let invalid = |why: String| Refusal::invalid(format!("invalid agent ID: {why}"));
    let id = convert::spiffe_id("id", id).map_err(|error| invalid(error.reason().to_owned()))?;
    if !id.is_member_of(view.trust_domain()) {
        let text = format!(
            "\"{id}\" is not a member of trust domain \"{}\"",
            view.trust_domain()
        );
        return Err(invalid(text));
    }
    if !id.path().as_str().starts_with("/spire/agent/") {
        return Err(invalid(format!(
            "\"{id}\" is not in the agent namespace /spire/agent"
        )));
    }
    view.node(&id)
        .filter(|_| scope.reaches_node(verb, &id))
        .cloned()
        .ok_or_else(|| Refusal::not_found("agent not found"))
}

/// Forgets a node. Its streams end, its certificate counts no more; it may attest anew.
pub(super) async fn evict(
    context: &Context,
    caller: &Caller,
    id: Option<&types::Spiffeid>,
) -> Result<(), Refusal> {
    change(context, caller, Verb::NodeEvict, id, nodes::evict).await
}

/// Shuts a node out until it is evicted.
pub(super) async fn ban(
    context: &Context,
    caller: &Caller,
    id: Option<&types::Spiffeid>,
) -> Result<(), Refusal> {
    change(context, caller, Verb::NodeBan, id, |_, node| nodes::ban(node)).await
}

/// Notes what the calling node says of its version.
pub(super) async fn note_version(context: &Context, caller: &Caller, version: String) -> Result<(), Refusal> {
    if version.len() > LONGEST_VERSION || version.chars().any(char::is_control) {
        return Err(Refusal::invalid(
            "agent_version: longer than 255 bytes, or with control characters",
        ));
    }
    if version.is_empty() {
        return Ok(());
    }
    let id = caller.node()?;
    for _ in 0..TRIES {
        let view = context.registry.view();
        let node = view
            .node(id)
            .ok_or_else(|| Refusal::not_found("agent not found"))?;
        if node.agent_version == version {
            return Ok(());
        }
        match context
            .registry
            .commit(nodes::state_version(node, version.clone()))
            .await
        {
            Err(CommitError::Conflict(_)) => {}
            done => return Ok(done.map(drop)?),
        }
    }
    Err(raced())
}

async fn change(
    context: &Context,
    caller: &Caller,
    verb: Verb,
    id: Option<&types::Spiffeid>,
    plan: impl Fn(&View, &NodeRecord) -> Vec<Change>,
) -> Result<(), Refusal> {
    let action = match verb {
        Verb::NodeBan => Action::NodeBan,
        _ => Action::NodeEvict,
    };
    let _turn = match caller.role() {
        Role::Granted => Some(context.one_at_a_time.turn().await),
        _ => None,
    };
    let changed = async {
        for _ in 0..TRIES {
            let view = context.registry.view();
            let scope = context.scope_for(caller, &view, verb)?;
            let node = find(&view, &scope, verb, id)?;
            match context.registry.commit(plan(&view, &node)).await {
                Ok(position) => return Ok((node, position)),
                Err(CommitError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(raced())
    };
    match changed.await {
        Ok((node, position)) => {
            tracing::info!(node = %node.id, action = ?action, "node changed");
            let event = Event::new(caller.actor(), action, Outcome::Done).object(Object::node(&node.id));
            context.record(event.position(position)).await
        }
        Err(refusal) => {
            let event = |outcome| {
                let event = Event::new(caller.actor(), action, outcome);
                match convert::spiffe_id("id", id) {
                    Ok(id) => event.object(Object::node(&id)),
                    Err(_) => event,
                }
            };
            Err(context.refused(refusal, event).await)
        }
    }
}

fn raced() -> Refusal {
    Refusal::new(Code::Aborted, "the node is being changed by others; try again")
}
