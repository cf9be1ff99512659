//! Whether who opened a call may still have what is about to leave (I4). The door asked once, when the call began; a stream lives on, an item waits in a queue.

use std::{pin::Pin, sync::Arc};

use futures_util::{Stream, StreamExt as _, stream};
use muster_audit::{Action, Event, Object};
use tonic::{Code, Status};

use super::{Caller, Context, Refusal, Role};
use crate::{
    nodes::{NodeRefusal, NodeView},
    sync::StreamKind,
};

/// Resolves, with the reason, when a stream of a node must end.
pub(crate) type Dismissal = Pin<Box<dyn Future<Output = Refusal> + Send>>;

impl Context {
    /// The newest view, if the calling node's certificate counts in it.
    pub(crate) fn view_for(&self, caller: &Caller) -> Result<NodeView, Refusal> {
        let certificate = caller.certificate()?;
        Ok(NodeView::new(
            self.registry.view(),
            &certificate,
            self.clock.now(),
        )?)
    }

    /// Whether an administrator is one still. Holders of grants are asked about those at each look.
    pub(crate) fn still_admin(&self, caller: &Caller) -> Result<(), Refusal> {
        let still = match caller.role() {
            Role::Local => true,
            Role::Admin => caller
                .svid()
                .is_some_and(|svid| svid.not_after() >= self.clock.now() && self.is_admin(svid.id())),
            Role::Granted => caller
                .svid()
                .is_none_or(|svid| svid.not_after() >= self.clock.now()),
            Role::Nobody | Role::Downstream | Role::Agent => false,
        };
        if still {
            Ok(())
        } else {
            Err(Refusal::new(
                Code::PermissionDenied,
                "the caller is no administrator any more",
            ))
        }
    }
}

/// Watches over a stream of the calling node: its certificate ends, it is banned, evicted or renewed elsewhere, or it opens a newer stream of the same kind. From this
/// call on that ends the one before.
pub(crate) fn dismissal(
    context: &Arc<Context>,
    caller: &Caller,
    kind: StreamKind,
) -> Result<Dismissal, Refusal> {
    let certificate = caller.certificate()?;
    // Opened before the first look, so that no commit falls between.
    let mailbox = context.registry.record_mailbox(&certificate.id);
    let mut turn = context.connections.turn(kind, &certificate.id);
    let (context, caller) = (Arc::clone(context), caller.clone());
    Ok(Box::pin(async move {
        let mut certificate_ends = context.clock.sleep_until(certificate.not_after);
        loop {
            if let Err(refusal) = context.view_for(&caller) {
                return refusal;
            }
            tokio::select! {
                biased;
                _ = mailbox.wait() => {}
                () = &mut certificate_ends => return NodeRefusal::Expired.into(),
                () = turn.over() => {
                    return Refusal::new(Code::Aborted, "a newer stream of this node took the place of this one");
                }
            }
        }
    }))
}

/// A stream to a node, until it ends, fails or must end. What is under way then is dropped, and the reason is recorded before it is told.
pub(crate) fn until_dismissed<T: Send + 'static>(
    context: Arc<Context>,
    caller: Caller,
    items: impl Stream<Item = Result<T, Status>> + Send + 'static,
    dismissed: Dismissal,
) -> impl Stream<Item = Result<T, Status>> + Send + 'static {
    let open = Some((Box::pin(items), dismissed, context, caller));
    stream::unfold(open, |open| async move {
        let (mut items, mut dismissed, context, caller) = open?;
        let refusal = tokio::select! {
            biased;
            refusal = &mut dismissed => refusal,
            item = items.next() => return match item? {
                Ok(item) => Some((Ok(item), Some((items, dismissed, context, caller)))),
                // What comes after a failure would be answered by nobody.
                Err(status) => Some((Err(status), None)),
            },
        };
        drop(items);
        let event = |outcome| {
            let event = Event::new(caller.actor(), Action::CallRefuse, outcome);
            caller
                .spiffe_id()
                .into_iter()
                .fold(event, |event, id| event.object(Object::node(id)))
        };
        let refusal = context.refused(refusal, event).await;
        Some((Err(refusal.into_status()), None))
    })
}
