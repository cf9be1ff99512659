//! A TLS connection to the server.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use hyper_util::rt::TokioIo;
use muster_pki::x509::{AuthorityId, X509Svid};
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
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

/// How a connection is watched while nothing is said on it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Pings {
    /// So often that a dead peer is noticed after six seconds.
    Often,
    /// Not at all: each call has its deadline.
    Never,
}

/// One connection, with word of its end.
pub(super) struct Line {
    /// For calls on it.
    pub(super) channel: Channel,
    ended: watch::Receiver<()>,
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

impl ConnectError {
    /// Whether somebody answered who could not prove to be the server: to try again is of no use, and somebody should look.
    pub fn is_another_server(&self) -> bool {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = cause {
            let within = error
                .downcast_ref::<io::Error>()
                .and_then(io::Error::get_ref)
                .and_then(|inner| inner.downcast_ref::<rustls::Error>());
            if let Some(rustls::Error::InvalidCertificate(_)) = within.or_else(|| error.downcast_ref()) {
                return true;
            }
            cause = error.source();
        }
        false
    }
}

impl Dial {
    /// Connects once, for a few calls that have deadlines of their own.
    pub async fn connect(&self) -> Result<Channel, ConnectError> {
        self.line(Pings::Never).await.map(|line| line.channel)
    }

    /// Connects once. The channel never reconnects by itself: what answers at the same address next may be another server, or be shown another certificate.
    pub(super) async fn line(&self, pings: Pings) -> Result<Line, ConnectError> {
        // TLS is ours, below HTTP/2: so the URI says http, and the host is only a name.
        let uri: Uri = format!("http://{}", self.server)
            .parse()
            .map_err(|_| self.no_address())?;
        if uri.port_u16().is_none() {
            return Err(self.no_address());
        }
        let mut endpoint = Endpoint::from(uri)
            .connect_timeout(CONNECT_WITHIN)
            .initial_stream_window_size(MOST_BYTES)
            .tcp_nodelay(true);
        if pings == Pings::Often {
            endpoint = endpoint
                .http2_keep_alive_interval(KEEPALIVE.0)
                .keep_alive_timeout(KEEPALIVE.1)
                .keep_alive_while_idle(true);
        }
        let (open, ended) = watch::channel(());
        let (dial, mut open) = (self.clone(), Some(open));
        let connector = service_fn(move |_: Uri| {
            let (dial, open) = (dial.clone(), open.take());
            async move {
                let open = open.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))?;
                let stream = dial.open().await?;
                Ok::<_, io::Error>(TokioIo::new(Watched { stream, _open: open }))
            }
        });
        let connected = endpoint.connect_with_connector(connector).await;
        let channel = connected.map_err(|source| ConnectError::Connect {
            server: self.server.clone(),
            source: source.into(),
        })?;
        Ok(Line { channel, ended })
    }

    async fn open(&self) -> io::Result<TlsStream<TcpStream>> {
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

impl Line {
    /// Returns when the connection has ended, whoever ended it: also after a server has asked to go elsewhere (GOAWAY) and the last call on it was answered.
    pub(super) async fn ended(&mut self) {
        // Nothing is ever sent: the only news is that the sender went with the connection.
        while self.ended.changed().await.is_ok() {}
    }
}

/// The stream below HTTP/2. It is dropped with the connection, and with it the sender that tells of its end.
struct Watched {
    stream: TlsStream<TcpStream>,
    _open: watch::Sender<()>,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
