//! The two doors: the admin socket in plaintext, TCP with TLS. What is served at each.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use muster_pki::tls::{ClientAuth, PeerIds, PeerVerifier, SvidResolver, provider, server_config_with};
use muster_proto::authority::rotation_server::RotationServer;
use muster_proto::delivery::delivery_server::DeliveryServer;
use muster_proto::federation::federation_server::FederationServer;
use muster_proto::grant::grants_server::GrantsServer;
use muster_proto::node::node_server::NodeServer;
use muster_proto::spire::server::agent::agent_server::AgentServer;
use muster_proto::spire::server::bundle::bundle_server::BundleServer;
use muster_proto::spire::server::debug::debug_server::DebugServer;
use muster_proto::spire::server::entry::entry_server::EntryServer;
use muster_proto::spire::server::localauthority::local_authority_server::LocalAuthorityServer;
use muster_proto::spire::server::logger::logger_server::LoggerServer;
use muster_proto::spire::server::svid::svid_server::SvidServer;
use muster_proto::spire::server::trustdomain::trust_domain_server::TrustDomainServer;
use muster_runtime::{Clock, Stop};
use muster_transport::{AdminDoor, BindError, Cutter, TlsDoor, h2_limits};
use rustls::ServerConfig;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic_health::pb::health_server::HealthServer;

use crate::api::Context;
use crate::api::agent::AgentService;
use crate::api::authorize::AuthorizeLayer;
use crate::api::bundle::BundleService;
use crate::api::debug::DebugService;
use crate::api::delivery::DeliveryService;
use crate::api::entry::EntryService;
use crate::api::federation::FederationService;
use crate::api::grant::GrantService;
use crate::api::health::HealthService;
use crate::api::local_authority::LocalAuthorityService;
use crate::api::logger::LoggerService;
use crate::api::node::NodeService;
use crate::api::rotation::RotationService;
use crate::api::svid::SvidService;
use crate::api::trust_domain::TrustDomainService;
use crate::bundles::{Bundles, PeerTrust};
use crate::config::Config;
use crate::federation::Federation;

/// The largest message that administrators' services read: gRPC's default, which SPIRE's clients count on for their batches.
const LARGEST_BATCH: usize = 4 << 20;
/// 500 requests with the largest keys that are allowed are below 1 MiB.
const LARGEST_CSRS: usize = 2 << 20;
/// What the contract with our agents promises. Up to 64 messages of one stream are worked on at once.
const LARGEST_OF_NODE: usize = 1 << 20;
/// A proof of a node's identity: some certificates or tokens.
const LARGEST_PROOF: usize = 256 << 10;
/// The id of an authority.
const LARGEST_NAME: usize = 16 << 10;
/// A thousand entry ids.
const LARGEST_LIST: usize = 256 << 10;

/// One door at work, until it is told to stop.
pub(crate) type Serving = Pin<Box<dyn Future<Output = Result<(), tonic::transport::Error>> + Send>>;

/// Both doors, bound.
pub(crate) struct Doors {
    admin: AdminDoor,
    tcp: TlsDoor,
}

/// Why a door could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// The admin socket.
    #[error("binding the admin socket")]
    Admin(#[from] BindError),
    /// TCP.
    #[error("binding {address}")]
    Tcp {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// TLS.
    #[error("setting up TLS")]
    Tls(#[from] rustls::Error),
}

impl Doors {
    pub(crate) async fn bind(
        config: &Config,
        bundles: &Bundles,
        svid: SvidResolver,
        clock: &Arc<dyn Clock>,
        federation: &Federation,
    ) -> Result<Self, DoorError> {
        let federation = federation.clone();
        let verifier = PeerVerifier::new(bundles.cell(), PeerIds::Any, ClientAuth::Optional, &provider())
            .noting(Arc::new(move |trust_domain| {
                federation.met_unknown_key(trust_domain);
            }));
        let tls: Arc<ServerConfig> = server_config_with(verifier, svid)?;
        let address = config.listen;
        let tcp = TlsDoor::bind(address, Arc::new(move || Arc::clone(&tls)), config.connections).await;
        let tcp = tcp.map_err(|source| DoorError::Tcp { address, source })?;
        let trust = PeerTrust::new(bundles.clone(), Arc::clone(clock));
        let tcp = tcp.trusting(Arc::new(trust));
        let admin = AdminDoor::bind(&config.admin_socket, config.admin_socket_mode)?;
        Ok(Self { admin, tcp })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.tcp.local_addr()
    }

    pub(crate) fn cutters(&self) -> [Cutter; 2] {
        [self.admin.cutter(), self.tcp.cutter()]
    }

    /// The serving of the admin socket and of the TCP door, each for a task of its own.
    pub(crate) fn serve(self, context: &Arc<Context>, stop: &Stop) -> [Serving; 2] {
        let layer = AuthorizeLayer::new(Arc::clone(context));
        let admin = h2_limits(Server::builder())
            .layer(layer.clone())
            .add_routes(local(context))
            .serve_with_incoming_shutdown(self.admin, stop.ordered_owned());
        let tcp = self
            .tcp
            .h2_limits(Server::builder())
            .layer(layer)
            .add_routes(remote(context))
            .serve_with_incoming_shutdown(self.tcp, stop.ordered_owned());
        [Box::pin(admin), Box::pin(tcp)]
    }
}

/// What the TCP door serves.
fn remote(context: &Arc<Context>) -> Routes {
    let context = || Arc::clone(context);
    let agents = AgentServer::new(AgentService::new(context()));
    let bundles = BundleServer::new(BundleService::new(context()));
    let entries = EntryServer::new(EntryService::new(context()));
    let svids = SvidServer::new(SvidService::new(context()));
    let delivery = DeliveryServer::new(DeliveryService::new(context()));
    let grants = GrantsServer::new(GrantService::new(context()));
    let nodes = NodeServer::new(NodeService::new(context()));
    let rotation = RotationServer::new(RotationService::new(context()));
    let authorities = LocalAuthorityServer::new(LocalAuthorityService::new(context()));
    let trust_domains = TrustDomainServer::new(TrustDomainService::new(context()));
    let federation = FederationServer::new(FederationService::new(context()));
    Routes::new(agents.max_decoding_message_size(LARGEST_PROOF))
        .add_service(bundles.max_decoding_message_size(LARGEST_BATCH))
        .add_service(entries.max_decoding_message_size(LARGEST_BATCH))
        .add_service(svids.max_decoding_message_size(LARGEST_CSRS))
        .add_service(delivery.max_decoding_message_size(LARGEST_LIST))
        .add_service(grants.max_decoding_message_size(LARGEST_LIST))
        .add_service(nodes.max_decoding_message_size(LARGEST_OF_NODE))
        .add_service(authorities.max_decoding_message_size(LARGEST_NAME))
        .add_service(rotation.max_decoding_message_size(LARGEST_NAME))
        .add_service(trust_domains.max_decoding_message_size(LARGEST_BATCH))
        .add_service(federation.max_decoding_message_size(LARGEST_LIST))
}

/// What the admin socket serves: the same, and what only local administrators may see.
fn local(context: &Arc<Context>) -> Routes {
    let services = remote(context);
    let context = || Arc::clone(context);
    services
        .add_service(DebugServer::new(DebugService::new(context())))
        .add_service(LoggerServer::new(LoggerService::new(context())))
        .add_service(HealthServer::new(HealthService::new(context())))
}
