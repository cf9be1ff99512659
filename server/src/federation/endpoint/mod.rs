//! Our bundle endpoint: one document for whoever asks (FD 4, 5.2.1.3, 5.2.2.3).
//!
//! TCP → a place at the door, or none → TLS (our SVID, or a certificate of the Web PKI) → GET / → the newest bundle
//!
//! Nobody is asked who he is. Who shows the tag of what he holds may wait for something newer (RFC 7240), within bounds: that is how two Muster servers know of each other's
//! changes within a round trip. Others ask again at the hint.

mod answer;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use muster_pki::tls::{SvidResolver, provider};
use muster_runtime::{Clock, Spawner, Stop};
use rustls::ServerConfig;
use rustls::server::ResolvesServerCert;
use rustls::version::TLS13;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tracing::debug;

use super::Statuses;
use crate::admission::{Admission, Ticket};
use crate::bundles::Bundles;
use crate::web::{
    CONNECTIONS, CONNECTIONS_PER_ADDRESS, Door, WebError, WebSource, WebState, WebTls, finished, is_proof,
};
use answer::Desk;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long the head of a request may take.
const HEAD: Duration = Duration::from_secs(10);
/// How long a connection may be used.
const LIFE: Duration = Duration::from_secs(180);
/// The largest head of a request.
const LARGEST_HEAD: usize = 16 << 10;
/// How long to wait when the kernel has nothing to accept with.
const PAUSE: Duration = Duration::from_millis(50);

/// What the endpoint is told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EndpointConfig {
    /// Where it listens.
    pub listen: SocketAddr,
    /// How it proves what it is.
    pub profile: EndpointProfile,
}

/// How the endpoint proves what it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum EndpointProfile {
    /// `https_spiffe`: by the server's own X.509-SVID.
    Spiffe,
    /// `https_web`: by a certificate of the Web PKI.
    Web(WebSource),
}

/// Why the endpoint could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// The address.
    #[error("binding the bundle endpoint to {address}")]
    Bind {
        /// Which.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The certificate.
    #[error("the bundle endpoint's certificate")]
    Certificate(#[from] WebError),
    /// TLS.
    #[error("setting up the bundle endpoint's TLS")]
    Tls(#[from] rustls::Error),
}

/// The endpoint, bound.
pub struct Endpoint {
    listener: TcpListener,
    address: SocketAddr,
    tls: Arc<ServerConfig>,
    web: Option<WebTls>,
}

impl Endpoint {
    /// Binds, and makes sure that there is something to show.
    ///
    /// # Errors
    /// When the address is taken or the certificate can't be used.
    pub async fn bind(
        config: EndpointConfig,
        svid: SvidResolver,
        state: &WebState<'_>,
    ) -> Result<Self, EndpointError> {
        let (tls, web) = match config.profile {
            EndpointProfile::Spiffe => (spiffe_tls(Arc::new(svid))?, None),
            EndpointProfile::Web(source) => {
                let web = WebTls::open(source, Door::BundleEndpoint, state)?;
                (web.config(), Some(web))
            }
        };
        let failed = |source| EndpointError::Bind {
            address: config.listen,
            source,
        };
        let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self {
            listener,
            address,
            tls,
            web,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the stop is ordered; connections are children of `spawner`.
    pub async fn serve(
        self,
        bundles: Bundles,
        statuses: Statuses,
        clock: Arc<dyn Clock>,
        spawner: Spawner,
        stop: Stop,
    ) -> Result<(), Infallible> {
        let acceptor = TlsAcceptor::from(self.tls);
        let desk = Arc::new(Desk::new(bundles, statuses, Arc::clone(&clock), stop.clone()));
        let admission = Admission::new(CONNECTIONS, CONNECTIONS_PER_ADDRESS);
        let keeping = async {
            match self.web {
                None => std::future::pending().await,
                Some(web) => web.keep(&*clock).await,
            }
        };
        let accepting = async {
            loop {
                match self.listener.accept().await {
                    Ok((stream, peer)) => {
                        let Ok(ticket) = admission.admit(Some(peer.ip())) else {
                            debug!(peer = %peer, "the bundle endpoint is full; a connection was closed");
                            continue;
                        };
                        let serving =
                            serve(stream, acceptor.clone(), Arc::clone(&desk), ticket, stop.clone());
                        spawner.spawn_for_peer("bundle endpoint", serving);
                    }
                    // Of the one connection, or no descriptors: neither is a reason to end.
                    Err(_) => tokio::time::sleep(PAUSE).await,
                }
            }
        };
        tokio::select! {
            () = stop.ordered() => Ok(()),
            never = keeping => match never {},
            () = accepting => Ok(()),
        }
    }
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor, desk: Arc<Desk>, ticket: Ticket, stop: Stop) {
    stream.set_nodelay(true).ok();
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await else {
        return;
    };
    if is_proof(stream.get_ref().1) {
        return;
    }
    let service = service_fn(|request| {
        let desk = Arc::clone(&desk);
        async move { Ok::<_, Infallible>(desk.answer(&request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(LARGEST_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        served = connection => if let Err(error) = served {
            debug!(error = &error as &dyn std::error::Error, "a connection to the bundle endpoint broke");
        },
        () = tokio::time::sleep(LIFE) => {}
        () = stop.ordered() => {}
    }
    drop(ticket);
}

fn spiffe_tls(shown: Arc<dyn ResolvesServerCert>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(shown);
    Ok(finished(config, None))
}
