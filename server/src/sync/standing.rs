use muster_identity::{SpiffeId, UnixTime};
use muster_proto::convert::Reason;
use tonic::Code;

use crate::api::{Caller, Context, Refusal};

/// When the certificate that a stream came with ends, and so the stream.
pub(crate) fn end_of(caller: &Caller) -> Result<UnixTime, Refusal> {
    caller
        .svid()
        .map(|svid| svid.not_after())
        .ok_or_else(|| Refusal::internal("a node without a certificate"))
}

/// Whether the node may still be talked to on the certificate of this stream (T-32). Asked at each push and request: the
/// handshake was long ago.
pub(crate) fn standing(context: &Context, caller: &Caller, id: &SpiffeId) -> Result<(), Refusal> {
    let denied = |reason, text: &str| Err(Refusal::new(Code::PermissionDenied, text).reason(reason));
    let svid = caller
        .svid()
        .ok_or_else(|| Refusal::internal("a node without a certificate"))?;
    if svid.not_after() < context.clock.now() {
        return denied(Reason::AgentExpired, "agent SVID has expired");
    }
    let view = context.registry.view();
    let Some(record) = view.node(id) else {
        return denied(Reason::AgentNotAttested, "agent is not attested");
    };
    let Some(current) = &record.current else {
        return denied(Reason::AgentBanned, "agent is banned");
    };
    let serial = svid.serial().to_string();
    let pending = record
        .pending
        .as_ref()
        .is_some_and(|pending| pending.serial == serial);
    if current.serial != serial && !pending {
        return denied(Reason::AgentNotActive, "agent SVID is not active");
    }
    Ok(())
}
