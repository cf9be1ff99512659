//! Why there is no connection to the server.

use std::error::Error as _;
use std::time::Duration;

use tonic::{Code, Status};

use super::channel::ConnectError;
use super::session::SessionError;
use super::spire::CallError;
use crate::attest::{AttestError, Denial, denial_of};
use crate::keep::NodeStoreError;

/// Why there is no connection (any more).
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the connection to the server")]
    Status(#[from] Box<Status>),
    #[error("the server closed the connection")]
    Closed,
    #[error("the server said nothing for {} s", .0.as_secs())]
    Silent(Duration),
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error("the node's certificate")]
    Attest(#[from] AttestError),
    #[error(transparent)]
    Store(#[from] NodeStoreError),
    #[error("the server's authority was revoked after it was connected to")]
    Revoked,
    #[error("preparing TLS")]
    Tls(#[from] rustls::Error),
    #[error(transparent)]
    Call(#[from] CallError),
}

impl LinkError {
    /// Whether the server ended the connection without saying why: it does so when it can't verify who connects.
    pub(super) fn is_unexplained(&self) -> bool {
        matches!(self, Self::Status(_) | Self::Closed) && self.denial().is_none()
    }

    /// Whether the connection broke, through nothing that was said on it.
    pub(super) fn is_break(&self) -> bool {
        match self {
            Self::Closed => true,
            Self::Status(status) => status.code() == Code::Unavailable || status.source().is_some(),
            Self::Call(error) => error.broke(),
            _ => false,
        }
    }

    pub(super) fn denial(&self) -> Option<Denial> {
        match self {
            Self::Status(status) => denial_of(status),
            Self::Call(error) => error.status().and_then(denial_of),
            Self::Attest(error) => error.denial(),
            _ => None,
        }
    }
}
