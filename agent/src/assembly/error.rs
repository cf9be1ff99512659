//! Why there is no agent.

use std::io;
use std::net::SocketAddr;

use muster_audit::AuditError;
use muster_identity::TrustDomain;
use muster_transport::{BindError, PassedError};
use muster_workload_attestors::StartError;

use crate::attest::{JoinError, TokenFileError};
use crate::keep::{NodeStoreError, OpenFolderError};

/// Why there is no agent.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The data folder.
    #[error(transparent)]
    Folder(#[from] OpenFolderError),
    /// The node's state.
    #[error(transparent)]
    Node(#[from] NodeStoreError),
    /// This machine is no node, and nothing says how to become one.
    #[error(
        "this machine is no node yet; run: muster-agent join --server HOST:PORT --token-file FILE (--bundle FILE | --bundle-sha256 FINGERPRINT)"
    )]
    NotJoined,
    /// The configuration says another trust domain than the node is of.
    #[error("this node is of trust domain {joined}, but the configuration says {configured}")]
    OtherTrustDomain {
        /// What the node is of.
        joined: TrustDomain,
        /// What was configured.
        configured: TrustDomain,
    },
    /// The token's file.
    #[error(transparent)]
    Token(#[from] TokenFileError),
    /// The first attestation.
    #[error("joining")]
    Join(#[from] JoinError),
    /// A socket.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A socket that systemd passed.
    #[error(transparent)]
    Passed(#[from] PassedError),
    /// The door for probes.
    #[error("binding {address} for probes")]
    Http {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The audit log.
    #[error("opening the audit log")]
    AuditLog(#[from] muster_audit::OpenError),
    /// The audit log.
    #[error("recording the start")]
    Audit(#[from] AuditError),
    /// The attestors.
    #[error(transparent)]
    Attestor(#[from] StartError),
    /// The threads that make keys.
    #[error("starting the threads that make keys")]
    Threads(#[source] io::Error),
}
