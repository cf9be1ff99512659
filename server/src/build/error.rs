use std::io;
use std::net::SocketAddr;

use muster_audit::AuditError;
use muster_plugin_api::PublishError;

use crate::bundles::BundleRecordError;
use crate::ca::{KeeperError, ServerSvidError};
use crate::doors::DoorError;
use crate::node_attestors::StartNodeAttestorError;
use crate::oidc::DiscoveryError;
use crate::registry::RecordError;
use crate::state::StateError;

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The data folder.
    #[error(transparent)]
    State(#[from] StateError),
    /// A record of the registry.
    #[error("reading the registry")]
    Registry(#[from] RecordError),
    /// The bundle.
    #[error("reading the bundle")]
    Bundle(#[from] BundleRecordError),
    /// The signing threads.
    #[error("starting the signing threads")]
    Threads(#[source] io::Error),
    /// The authorities.
    #[error("keeping the authorities")]
    Authorities(#[from] KeeperError),
    /// The server's certificate.
    #[error("making the server's certificate")]
    Certificate(#[from] ServerSvidError),
    /// Where the bundle is to be laid.
    #[error("bundle_publishers")]
    Publisher(#[from] PublishError),
    /// How nodes may prove themselves.
    #[error(transparent)]
    NodeAttestor(#[from] StartNodeAttestorError),
    /// OIDC discovery.
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    /// A door.
    #[error(transparent)]
    Door(#[from] DoorError),
    /// The door for probes.
    #[error("binding {address} for probes")]
    Http {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The audit log.
    #[error("recording the start")]
    Audit(#[from] AuditError),
    /// The bundle endpoint.
    #[error(transparent)]
    Endpoint(#[from] crate::federation::endpoint::EndpointError),
    /// A peer's first bundle.
    #[error(transparent)]
    FirstBundle(#[from] crate::federation::FirstBundleError),
    /// The authorities of the Web PKI.
    #[error("federation.ca_file")]
    WebRoots(#[from] crate::web::WebRootsError),
}
