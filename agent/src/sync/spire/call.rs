//! What can become of a call to a SPIRE server.

use std::error::Error as _;
use std::time::Duration;

use tonic::{Code, Status};

use super::listing::ListingError;
use crate::attest::{Denial, denial_of};

/// The transport's limit for a message, which SPIRE's peers keep to as well.
pub(super) const MOST_BYTES: usize = 4 << 20;

/// Why a call brought nothing.
#[derive(Debug, thiserror::Error)]
pub(in crate::sync) enum CallError {
    /// The server said no, or the connection broke.
    #[error("the SPIRE server's answer to {0}")]
    Status(&'static str, #[source] Box<Status>),
    /// It said nothing.
    #[error("the SPIRE server did not answer {method} within {} s", within.as_secs())]
    Slow { method: &'static str, within: Duration },
    /// The entries are told in an order that makes no sense.
    #[error("the SPIRE server's list of entries: {0}")]
    Listing(ListingError),
    /// The stream ended where an answer should be.
    #[error("the SPIRE server broke off its answer to {0}")]
    Short(&'static str),
    /// The bundle is another trust domain's, or can't be used at all.
    #[error("the SPIRE server's trust bundle {0}")]
    Bundle(String),
}

impl From<ListingError> for CallError {
    fn from(error: ListingError) -> Self {
        Self::Listing(error)
    }
}

impl CallError {
    pub(in crate::sync) fn status(&self) -> Option<&Status> {
        match self {
            Self::Status(_, status) => Some(status),
            _ => None,
        }
    }

    /// Whether the server turned this node away, and not only this question.
    pub(super) fn turns_away(&self) -> bool {
        let denial = self.status().and_then(denial_of);
        matches!(denial, Some(Denial::Banned | Denial::MustReattest))
    }

    /// Whether the connection is gone, so that the server may never have seen the question.
    pub(in crate::sync) fn broke(&self) -> bool {
        // What a server says has no cause on this side.
        self.status().is_some_and(|status| status.source().is_some())
    }

    /// Whether the answer did not fit into a message.
    pub(super) fn too_large(&self) -> bool {
        self.status()
            .is_some_and(|status| status.code() == Code::OutOfRange && !self.broke())
    }
}

/// Waits for an answer, but not for ever.
pub(super) async fn within<T>(
    limit: Duration,
    method: &'static str,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, CallError> {
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => Err(CallError::Status(method, Box::new(status))),
        Err(_) => Err(CallError::Slow {
            method,
            within: limit,
        }),
    }
}
