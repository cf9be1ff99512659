//! The two doors: the admin socket in plaintext, TCP with TLS. What is served at each.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use muster_pki::tls::{ClientAuth, PeerIds, SvidResolver, server_config};
use muster_proto::delivery::delivery_server::DeliveryServer;
use muster_proto::node::node_server::NodeServer;
use muster_proto::spire::server::agent::agent_server::AgentServer;
use muster_proto::spire::server::bundle::bundle_server::BundleServer;
use muster_proto::spire::server::debug::debug_server::DebugServer;
use muster_proto::spire::server::entry::entry_server::EntryServer;
use muster_proto::spire::server::logger::logger_server::LoggerServer;
use muster_proto::spire::server::svid::svid_server::SvidServer;
use muster_runtime::Stop;
use muster_transport::{AdminDoor, BindError, Cutter, TlsDoor, TlsLimits, h2_limits};
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
use crate::api::health::HealthService;
use crate::api::logger::LoggerService;
use crate::api::node::NodeService;
use crate::api::svid::SvidService;
use crate::bundles::Bundles;
use crate::config::Config;

/// The largest message that is read; SPIRE's clients and servers keep gRPC's default.
const LARGEST_MESSAGE: usize = 4 * 1024 * 1024;

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
    ) -> Result<Self, DoorError> {
        let tls: Arc<ServerConfig> = server_config(bundles.cell(), PeerIds::Any, ClientAuth::Optional, svid)?;
        let address = config.listen;
        let tcp = TlsDoor::bind(address, Arc::new(move || Arc::clone(&tls)), TlsLimits::default()).await;
        let tcp = tcp.map_err(|source| DoorError::Tcp { address, source })?;
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
    Routes::new(AgentServer::new(AgentService::new(context())).max_decoding_message_size(LARGEST_MESSAGE))
        .add_service(
            BundleServer::new(BundleService::new(context())).max_decoding_message_size(LARGEST_MESSAGE),
        )
        .add_service(
            EntryServer::new(EntryService::new(context())).max_decoding_message_size(LARGEST_MESSAGE),
        )
        .add_service(SvidServer::new(SvidService::new(context())).max_decoding_message_size(LARGEST_MESSAGE))
        .add_service(DeliveryServer::new(DeliveryService::new(context())))
        .add_service(NodeServer::new(NodeService::new(context())).max_decoding_message_size(LARGEST_MESSAGE))
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
