//! A TLS connection to the server.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use hyper_util::rt::TokioIo;
use muster_pki::x509::{AuthorityId, X509Svid};
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

/// How long TCP and TLS may take together.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// How often the connection is tried, and how long an answer may take: a dead peer is noticed after six seconds.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(4));
/// The largest message that is taken; SPIRE's peers keep to it too.
const MOST_BYTES: u32 = 4 << 20;

/// Where the server is and how it is checked.
#[derive(Clone)]
pub struct Dial {
    /// `host:port`.
    pub server: String,
    /// Checks the server's SVID and shows the node's, if it has one.
    pub tls: Arc<ClientConfig>,
    /// What the server showed last.
    pub shown: ServerCertificate,
}

/// The certificate that a server showed when it was connected to; shared with whoever connects.
#[derive(Clone, Debug, Default)]
pub struct ServerCertificate(Arc<ArcSwapOption<X509Svid>>);

impl ServerCertificate {
    /// The authority above it, as far as it says.
    pub fn authority_id(&self) -> Option<AuthorityId> {
        self.0.load().as_ref().and_then(|svid| svid.authority_id())
    }

    fn keep(&self, chain: Option<&[CertificateDer<'static>]>) {
        let svid = chain.and_then(|chain| X509Svid::parse(chain.to_vec()).ok());
        self.0.store(svid.map(Arc::new));
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The configured address is none.
    #[error("{0:?} is no address of the form host:port")]
    Address(String),
    /// The server is not there, or is not the one it should be.
    #[error("connecting to the server at {server}")]
    Connect {
        /// Where.
        server: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Dial {
    /// Connects once. The channel does not reconnect by itself to another certificate: whoever holds it drops it when it fails.
    pub async fn connect(&self) -> Result<Channel, ConnectError> {
        // TLS is ours, below HTTP/2: so the URI says http, and the host is only a name.
        let uri: Uri = format!("http://{}", self.server)
            .parse()
            .map_err(|_| self.no_address())?;
        if uri.port_u16().is_none() {
            return Err(self.no_address());
        }
        let endpoint = Endpoint::from(uri)
            .connect_timeout(CONNECT_WITHIN)
            .http2_keep_alive_interval(KEEPALIVE.0)
            .keep_alive_timeout(KEEPALIVE.1)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(MOST_BYTES)
            .tcp_nodelay(true);
        let dial = self.clone();
        let connector = service_fn(move |_: Uri| {
            let dial = dial.clone();
            async move { dial.open().await.map(TokioIo::new) }
        });
        endpoint
            .connect_with_connector(connector)
            .await
            .map_err(|source| ConnectError::Connect {
                server: self.server.clone(),
                source: source.into(),
            })
    }

    async fn open(&self) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let connect = async {
            let tcp = TcpStream::connect(&self.server).await?;
            tcp.set_nodelay(true)?;
            // The name is not checked and not sent as one to check: a server is known by its SPIFFE ID.
            let name = ServerName::try_from("muster-server").map_err(io::Error::other)?;
            let stream = TlsConnector::from(Arc::clone(&self.tls))
                .connect(name, tcp)
                .await?;
            self.shown.keep(stream.get_ref().1.peer_certificates());
            Ok(stream)
        };
        tokio::time::timeout(CONNECT_WITHIN, connect)
            .await
            .map_err(|_| io::ErrorKind::TimedOut)?
    }

    fn no_address(&self) -> ConnectError {
        ConnectError::Address(self.server.clone())
    }
}
