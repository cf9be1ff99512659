//! OpenID Connect discovery: by it OAuth servers and model providers find the keys that check our JWT-SVIDs, with nothing but the issuer's URL.
//!
//! TCP → a place at the door → TLS (a certificate of the Web PKI) ─┐
//! Unix socket, or TCP behind a proxy that speaks TLS ─────────────┴→ host, path, method → the newest bundle's keys
//!
//! Nobody is asked who he is, and nothing that is not public is there. Not trusted: hosts, paths, sizes, promptness. Begin at [`Discovery`].

mod answer;
mod document;
mod issuer;

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use muster_runtime::{Clock, Spawner, Stop};
use muster_transport::{AdminDoor, BindError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tracing::debug;

use crate::admission::Admission;
use crate::bundles::Bundles;
use crate::web::{
    CONNECTIONS, CONNECTIONS_PER_ADDRESS, Door, WebError, WebSource, WebState, WebTls, is_proof,
};

pub use issuer::{Issuer, IssuerError};

/// How long a handshake, and the head of a request, may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a connection may be used.
const LIFE: Duration = Duration::from_secs(180);
/// The largest head of a request.
const LARGEST_HEAD: usize = 16 << 10;
/// How long to wait when the kernel has nothing to accept with.
const PAUSE: Duration = Duration::from_millis(50);

/// What the door is told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DiscoveryConfig {
    /// Who issues tokens.
    pub issuer: Issuer,
    /// Where the documents are served.
    pub place: Place,
}

/// Where the documents are served.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Place {
    /// On TCP, with TLS by a certificate of the Web PKI.
    Tls {
        /// Where.
        listen: SocketAddr,
        /// Its certificate.
        certificate: WebSource,
    },
    /// On TCP without TLS, behind a proxy that has it.
    Plaintext(SocketAddr),
    /// On a Unix socket, for a proxy on this machine.
    Socket {
        /// Where.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

/// Why the door could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    /// TCP.
    #[error("binding OIDC discovery to {address}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The socket.
    #[error("binding OIDC discovery")]
    Socket(#[from] BindError),
    /// The certificate.
    #[error("the certificate of OIDC discovery")]
    Certificate(#[from] WebError),
}

/// The door, bound.
pub struct Discovery {
    issuer: Arc<Issuer>,
    address: Option<SocketAddr>,
    listener: Listener,
}

enum Listener {
    Tcp { tcp: TcpListener, web: Option<WebTls> },
    Unix(AdminDoor),
}

impl Discovery {
    /// Binds it.
    ///
    /// # Errors
    /// When the place is taken or the certificate can't be used.
    pub async fn bind(config: DiscoveryConfig, state: &WebState<'_>) -> Result<Self, DiscoveryError> {
        let (listener, address) = match config.place {
            Place::Socket { path, mode } => (Listener::Unix(AdminDoor::bind(&path, mode)?), None),
            Place::Plaintext(address) => {
                let (tcp, address) = bind(address).await?;
                (Listener::Tcp { tcp, web: None }, Some(address))
            }
            Place::Tls { listen, certificate } => {
                let web = Some(WebTls::open(certificate, Door::Discovery, state)?);
                let (tcp, address) = bind(listen).await?;
                (Listener::Tcp { tcp, web }, Some(address))
            }
        };
        Ok(Self {
            issuer: Arc::new(config.issuer),
            address,
            listener,
        })
    }

    /// Where it listens, if on TCP.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Serves until the stop is ordered; connections are children of `spawner`.
    pub async fn serve(
        self,
        bundles: Bundles,
        clock: Arc<dyn Clock>,
        spawner: Spawner,
        stop: Stop,
    ) -> Result<(), Infallible> {
        let desk = Desk {
            issuer: self.issuer,
            bundles,
        };
        let serving = async {
            match self.listener {
                Listener::Unix(mut door) => {
                    while let Some(stream) = door.next().await {
                        // What is wrong with one connection is no reason to end.
                        let Ok(stream) = stream else { continue };
                        let serving = serve(stream, desk.clone(), stop.clone());
                        spawner.spawn_for_peer("OIDC discovery", serving);
                    }
                }
                Listener::Tcp { tcp, web: None } => accept(&tcp, None, &desk, &spawner, &stop).await,
                Listener::Tcp { tcp, web: Some(web) } => {
                    let acceptor = TlsAcceptor::from(web.config());
                    tokio::select! {
                        () = accept(&tcp, Some(&acceptor), &desk, &spawner, &stop) => {}
                        never = web.keep(&*clock) => match never {},
                    }
                }
            }
        };
        tokio::select! {
            () = stop.ordered() => {}
            () = serving => {}
        }
        Ok(())
    }
}

/// What answers are made of.
#[derive(Clone)]
struct Desk {
    issuer: Arc<Issuer>,
    bundles: Bundles,
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), DiscoveryError> {
    let failed = |source| DiscoveryError::Bind { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

async fn accept(
    listener: &TcpListener,
    tls: Option<&TlsAcceptor>,
    desk: &Desk,
    spawner: &Spawner,
    stop: &Stop,
) {
    let admission = Admission::new(CONNECTIONS, CONNECTIONS_PER_ADDRESS);
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            // Of the one connection, or no descriptors: neither is a reason to end.
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let Ok(ticket) = admission.admit(Some(peer.ip())) else {
            debug!(peer = %peer, "OIDC discovery is full; a connection was closed");
            continue;
        };
        stream.set_nodelay(true).ok();
        let (tls, desk, stop) = (tls.cloned(), desk.clone(), stop.clone());
        let serving = async move {
            match tls {
                None => serve(stream, desk, stop).await,
                Some(tls) => {
                    if let Ok(Ok(stream)) = tokio::time::timeout(PATIENCE, tls.accept(stream)).await
                        && !is_proof(stream.get_ref().1)
                    {
                        serve(stream, desk, stop).await;
                    }
                }
            }
            drop(ticket);
        };
        spawner.spawn_for_peer("OIDC discovery", serving);
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, desk: Desk, stop: Stop) {
    let service = service_fn(|request: Request<Incoming>| {
        let (parts, _) = request.into_parts();
        let answer = answer::answer(&parts, &desk.issuer, &desk.bundles.own());
        async move { Ok::<_, Infallible>(answer) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(LARGEST_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        served = connection => if let Err(error) = served {
            debug!(error = &error as &dyn Error, "a connection to OIDC discovery broke");
        },
        () = tokio::time::sleep(LIFE) => {}
        () = stop.ordered() => {}
    }
}
