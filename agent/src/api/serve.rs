//! Which services stand behind which socket.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use muster_runtime::logging::LogLevel;
use muster_runtime::{Readiness, Spawner, Stop};
use muster_transport::{AdminDoor, UdsDoor, h2_limits};
use tonic::transport::Server;

use super::admin::{Debug, Logger, NodeInfo};
use super::health::health;
use super::workload::WorkloadApi;
use crate::peer::{Watch, peers};

/// How long connections may take to end by themselves when the daemon stops.
const DRAIN: Duration = Duration::from_secs(5);

/// Why a socket is not served any more.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The server of this socket failed.
    #[error("serving {socket}")]
    Serve {
        /// Which one.
        socket: String,
        /// Why.
        source: tonic::transport::Error,
    },
    /// The descriptions for reflection are broken: a mistake in the build.
    #[error("describing the services for reflection")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// A task could not be started.
    #[error("starting to serve")]
    Io(#[from] io::Error),
}

/// Serves the Workload API, health and reflection until `stop`, and then a moment longer to those who are connected.
pub async fn serve_workload(
    door: UdsDoor,
    api: WorkloadApi,
    readiness: Readiness,
    spawner: Spawner,
    stop: Stop,
) -> Result<(), ServeError> {
    let socket = door.path().display().to_string();
    let cutter = door.cutter();
    let (health, follow) = health(&readiness, stop.clone());
    spawner.spawn("health of the Workload API", async move {
        follow.await;
        Ok::<(), io::Error>(())
    });
    let watch = Arc::new(Watch::default());
    let (watched, end) = (Arc::clone(&watch), stop.clone());
    spawner.spawn("looking after callers", async move {
        tokio::select! {
            () = watched.keep() => {}
            () = end.ordered() => {}
        }
        Ok::<(), io::Error>(())
    });
    let described = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(muster_proto::workload::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let server = h2_limits(Server::builder())
        .add_service(api)
        .add_service(health)
        .add_service(described().build_v1()?)
        .add_service(described().build_v1alpha()?)
        .serve_with_incoming_shutdown(peers(door, watch), stop.ordered_owned());
    let cut_late = async {
        stop.ordered().await;
        // A peer that neither reads nor closes would keep the server waiting for ever.
        tokio::time::sleep(DRAIN).await;
        cutter.cut();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        served = server => served.map_err(|source| ServeError::Serve { socket, source }),
        () = cut_late => Ok(()),
    }
}

/// Serves administrators until `stop`.
pub async fn serve_admin(
    door: AdminDoor,
    info: impl NodeInfo,
    level: LogLevel,
    stop: Stop,
) -> Result<(), ServeError> {
    let socket = door.path().display().to_string();
    let cutter = door.cutter();
    let described = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(muster_proto::spire::agent::FILE_DESCRIPTOR_SET)
    };
    let server = h2_limits(Server::builder())
        .add_service(Debug::service(info))
        .add_service(Logger::service(level))
        .add_service(described().build_v1()?)
        .add_service(described().build_v1alpha()?)
        .serve_with_incoming_shutdown(door, stop.ordered_owned());
    let cut_late = async {
        stop.ordered().await;
        tokio::time::sleep(DRAIN).await;
        cutter.cut();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        served = server => served.map_err(|source| ServeError::Serve { socket, source }),
        () = cut_late => Ok(()),
    }
}
