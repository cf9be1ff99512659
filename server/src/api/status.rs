//! From an error to what the caller is told: the only place.
//!
//! The caller learns what he may act on. The log gets the whole chain, under the reference that stands at the end of the caller's message.

use std::error::Error;

use muster_proto::convert::{FieldError, denied};
use muster_proto::spire::types::Status as ItemStatus;
use muster_proto::spire::types::permission_denied_details::Reason;
use muster_runtime::{Reference, SigningPoolError};
use tonic::{Code, Status};
use tracing::{debug, info, warn};

use crate::ca::SignError;
use crate::nodes::NodeRefusal;
use crate::registry::CommitError;

/// A call, or an item of a batch, that is not done.
#[derive(Debug)]
pub struct Refusal {
    code: Code,
    message: String,
    reason: Option<Reason>,
    reference: Reference,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl Refusal {
    /// A refusal with the text that the caller sees.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            reason: None,
            reference: Reference::new(),
            source: None,
        }
    }

    /// The request is wrong; the text names the field.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, message)
    }

    /// What was asked for is not there.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Code::NotFound, message)
    }

    /// A fault of ours; the caller can do nothing about it.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Code::Internal, message)
    }

    /// Try again later.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(Code::Unavailable, message)
    }

    /// Not part of this server.
    pub fn unimplemented(message: impl Into<String>) -> Self {
        Self::new(Code::Unimplemented, message)
    }

    /// Adds the reason that SPIRE's agents act on. Only for PermissionDenied.
    #[must_use]
    pub fn reason(mut self, reason: Reason) -> Self {
        self.reason = Some(reason);
        self
    }

    /// Adds what led to it, for the log.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The gRPC code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The text without the reference.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The reference that log, audit and answer share.
    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    /// The answer to a whole call. Logs it.
    pub fn into_status(self) -> Status {
        self.log();
        let message = self.reference.sign(&self.message);
        match self.reason {
            Some(reason) => denied(message, reason),
            None => Status::new(self.code, message),
        }
    }

    /// The status of an item of a batch. Logs it.
    pub fn into_item(self) -> ItemStatus {
        self.log();
        ItemStatus {
            code: self.code as i32,
            message: self.reference.sign(&self.message),
        }
    }

    fn log(&self) {
        let Self {
            code,
            message,
            reference,
            source,
            ..
        } = self;
        let error = source.as_deref().map(|source| source as &dyn Error);
        match code {
            Code::Internal | Code::Unknown | Code::DataLoss => {
                warn!(%reference, ?code, error, "refused: {message}");
            }
            Code::PermissionDenied | Code::Unauthenticated | Code::Unavailable | Code::ResourceExhausted => {
                info!(%reference, ?code, error, "refused: {message}");
            }
            _ => debug!(%reference, ?code, error, "refused: {message}"),
        }
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        refusal.into_status()
    }
}

impl From<FieldError> for Refusal {
    fn from(error: FieldError) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<muster_audit::AuditError> for Refusal {
    fn from(error: muster_audit::AuditError) -> Self {
        // Fail closed: what can't be recorded does not happen.
        Self::unavailable("the audit log does not take the record").because(error)
    }
}

impl From<CommitError> for Refusal {
    fn from(error: CommitError) -> Self {
        let code = match &error {
            CommitError::Conflict(_) => Code::Aborted,
            CommitError::Full => Code::ResourceExhausted,
            CommitError::TooLarge(_) => Code::InvalidArgument,
            CommitError::Busy | CommitError::Stopped => Code::Unavailable,
        };
        Self::new(code, error.to_string()).because(error)
    }
}

impl From<NodeRefusal> for Refusal {
    fn from(refusal: NodeRefusal) -> Self {
        Self::new(Code::PermissionDenied, refusal.to_string()).reason(reason(refusal))
    }
}

/// What SPIRE's agents, and ours, act on.
pub(super) fn reason(refusal: NodeRefusal) -> Reason {
    match refusal {
        NodeRefusal::Expired => Reason::AgentExpired,
        NodeRefusal::NotAttested => Reason::AgentNotAttested,
        NodeRefusal::NotActive => Reason::AgentNotActive,
        NodeRefusal::Banned => Reason::AgentBanned,
    }
}

impl From<SigningPoolError> for Refusal {
    fn from(error: SigningPoolError) -> Self {
        match error {
            SigningPoolError::Busy => Self::unavailable("too many signatures are waiting, try again"),
            SigningPoolError::Broken => Self::internal("signing failed"),
        }
    }
}

impl From<SignError> for Refusal {
    fn from(error: SignError) -> Self {
        match error {
            SignError::NoAuthority(_) => Self::unavailable("no authority can sign now").because(error),
            error @ SignError::TokensDisabled => Self::unimplemented(error.to_string()),
            SignError::Pool(error) => error.into(),
            SignError::Lifetime(error) => Self::invalid(error.to_string()),
            SignError::X509(source) | SignError::Downstream(source) if source.may_retry() => {
                Self::unavailable("signing failed, try again").because(source)
            }
            SignError::X509(_) | SignError::Downstream(_) | SignError::Jwt(_) => {
                Self::internal("signing failed").because(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use muster_proto::convert::denial_reason;

    use super::*;

    #[test]
    fn the_callers_text_ends_with_the_reference_and_holds_nothing_of_the_cause() {
        let refusal = Refusal::internal("signing failed").because("token slot 3: CKR_DEVICE_ERROR");
        let reference = *refusal.reference();
        let status = refusal.into_status();
        assert_eq!(
            status.message(),
            format!("signing failed (reference {reference})")
        );
    }

    #[test]
    fn a_reason_travels_as_a_detail() {
        let status = Refusal::new(Code::PermissionDenied, "no")
            .reason(Reason::AgentBanned)
            .into_status();
        assert_eq!(denial_reason(&status), Some(Reason::AgentBanned));
    }
}
