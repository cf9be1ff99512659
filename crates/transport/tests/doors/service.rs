//! A gRPC server of one fixed answer behind a door: the wiring that a daemon copies.

use std::{
    convert::Infallible,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use muster_transport::{Evidence, Look, PROOF_TIMEOUT, Presence, Refusal, UdsDoor, UdsLimits, h2_limits};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::StreamExt;
use tonic::{
    Request, Response, Status,
    body::Body,
    server::{Grpc, NamedService, UnaryService},
    transport::{Server, server::Connected},
};
use tower::Service;

/// A door with a server behind it, in a directory of its own. Dropping it stops both.
pub(crate) struct Serving {
    directory: tempfile::TempDir,
    pub(crate) connections: mpsc::UnboundedReceiver<Presence>,
    pub(crate) cutter: muster_transport::Cutter,
    server: tokio::task::JoinHandle<()>,
    stop: Option<oneshot::Sender<()>>,
}

impl Serving {
    pub(crate) fn start() -> Self {
        Self::with(UdsLimits::default(), None)
    }

    /// With `gate`, nothing is accepted before it is opened.
    pub(crate) fn with(limits: UdsLimits, gate: Option<oneshot::Receiver<()>>) -> Self {
        let directory = tempfile::Builder::new().prefix("doors").tempdir().unwrap();
        // Callers of other users must reach the socket.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(directory.path(), open).unwrap();
        let door = UdsDoor::bind(&directory.path().join("api.sock"), 0o777, limits).unwrap();
        let cutter = door.cutter();
        let (seen, connections) = mpsc::unbounded_channel();
        let (stop, stopped) = oneshot::channel();
        let incoming = door.map(move |conn| {
            conn.inspect(|conn| {
                let _ = seen.send(conn.connect_info());
            })
        });
        let server = tokio::task::spawn(async move {
            if let Some(gate) = gate {
                let _ = gate.await;
            }
            h2_limits(Server::builder())
                .add_service(Who)
                .serve_with_incoming_shutdown(incoming, async {
                    let _ = stopped.await;
                })
                .await
                .unwrap();
        });
        Self {
            directory,
            connections,
            cutter,
            server,
            stop: Some(stop),
        }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("api.sock")
    }

    /// Stops accepting; returns when every connection has ended.
    pub(crate) async fn stop(mut self) {
        drop(self.stop.take());
        (&mut self.server).await.unwrap();
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Answers who the caller is, when it is present.
#[derive(Clone)]
struct Who;

impl NamedService for Who {
    const NAME: &'static str = "muster.test.Who";
}

impl Service<http::Request<Body>> for Who {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            Ok(Grpc::new(tonic_prost::ProstCodec::default())
                .unary(Ask, request)
                .await)
        })
    }
}

struct Ask;

impl UnaryService<String> for Ask {
    type Response = String;
    type Future = Pin<Box<dyn Future<Output = Result<Response<String>, Status>> + Send>>;

    fn call(&mut self, request: Request<String>) -> Self::Future {
        Box::pin(async move {
            let presence = request.extensions().get::<Presence>().unwrap();
            // A daemon runs its attestors here, side by side with the proof.
            let evidence = presence.evidence().map_err(|refusal| status(&refusal))?;
            let proven = presence
                .proven(PROOF_TIMEOUT)
                .await
                .map_err(|refusal| status(&refusal))?;
            let (evidence, proven) = match proven == evidence {
                true => (evidence, proven),
                false => {
                    let again = presence
                        .renew(PROOF_TIMEOUT)
                        .await
                        .map_err(|refusal| status(&refusal))?;
                    (Arc::clone(&again), again)
                }
            };
            assert_eq!(evidence, proven);
            presence
                .still(&evidence, Look::Light)
                .map_err(|refusal| status(&refusal))?;
            Ok(Response::new(describe(presence, &evidence)))
        })
    }
}

pub(crate) fn describe(presence: &Presence, evidence: &Evidence) -> String {
    format!(
        "pid={} uid={} standing={:?}",
        presence.process().pid(),
        evidence.uids.real,
        evidence.standing
    )
}

fn status(refusal: &Refusal) -> Status {
    match refusal.is_temporary() {
        true => Status::unavailable(refusal.to_string()),
        false => Status::permission_denied(refusal.to_string()),
    }
}

/// An unchanged gRPC client on `socket`.
pub(crate) async fn dial(socket: &Path) -> tonic::transport::Channel {
    try_dial(socket).await.unwrap()
}

pub(crate) async fn try_dial(socket: &Path) -> Result<tonic::transport::Channel, tonic::transport::Error> {
    let address = format!("unix:{}", socket.display());
    tonic::transport::Endpoint::from_shared(address)
        .unwrap()
        .connect()
        .await
}

pub(crate) async fn ask(channel: &tonic::transport::Channel) -> Result<String, Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client
        .ready()
        .await
        .map_err(|error| Status::unavailable(error.to_string()))?;
    let path = http::uri::PathAndQuery::from_static("/muster.test.Who/Ask");
    let codec = tonic_prost::ProstCodec::<String, String>::default();
    Ok(client
        .unary(Request::new(String::new()), path, codec)
        .await?
        .into_inner())
}
