//! Accepting, and handshakes side by side under bounds.

use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use rustls::{ServerConfig, server::Acceptor};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Sleep, sleep, timeout},
};
use tokio_rustls::LazyConfigAcceptor;
use tokio_stream::Stream;

use super::{
    admission::{Admission, Full, Ticket},
    conn::TlsConn,
    limits::TlsLimits,
    trust::Trust,
};
use crate::{cut::Cutter, http2::h2_limits};

/// How long to wait when the kernel has nothing to accept with.
const PAUSE: Duration = Duration::from_millis(20);

/// Gives the configuration of the moment: asked once for each connection, so that certificates and trust rotate
/// without a restart. Connections that are open keep theirs.
pub trait ServerConfigSource: Send + Sync {
    /// Today's configuration.
    fn current(&self) -> Arc<ServerConfig>;
}

impl<F: Fn() -> Arc<ServerConfig> + Send + Sync> ServerConfigSource for F {
    fn current(&self) -> Arc<ServerConfig> {
        self()
    }
}

/// A TCP socket that speaks TLS. As a stream it gives [`TlsConn`]s, and never an error: failed handshakes are logged.
pub struct TlsDoor {
    listener: TcpListener,
    address: SocketAddr,
    configs: Arc<dyn ServerConfigSource>,
    limits: TlsLimits,
    admission: Arc<Admission>,
    /// Owned here, so that dropping the door ends those under way.
    handshakes: JoinSet<Option<TlsConn>>,
    pause: Option<Pin<Box<Sleep>>>,
    cutter: Cutter,
    trust: Option<Arc<dyn Trust>>,
}

impl TlsDoor {
    /// Binds `address`; port 0 takes a free one.
    pub async fn bind(
        address: SocketAddr,
        configs: Arc<dyn ServerConfigSource>,
        limits: TlsLimits,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        Ok(Self {
            address: listener.local_addr()?,
            listener,
            configs,
            limits,
            admission: Admission::new(limits),
            handshakes: JoinSet::new(),
            pause: None,
            cutter: Cutter::default(),
            trust: None,
        })
    }

    /// Ends connections, present and future, whose peer `trust` has lost.
    #[must_use]
    pub fn trusting(mut self, trust: Arc<dyn Trust>) -> Self {
        self.trust = Some(trust);
        self
    }

    /// Where the door is, with its real port.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The settings of the gRPC server behind this door: those of every door, and the age at which a connection is
    /// asked to make place for a new one.
    pub fn h2_limits(&self, server: tonic::transport::Server) -> tonic::transport::Server {
        h2_limits(server).max_connection_age(self.limits.age)
    }

    /// Ends the connections when the drain deadline has passed.
    pub fn cutter(&self) -> Cutter {
        self.cutter.clone()
    }

    /// Takes connections while there is room for their handshakes.
    fn poll_accept(&mut self, cx: &mut Context<'_>) {
        while self.handshakes.len() < self.limits.handshakes {
            if let Some(pause) = &mut self.pause {
                if pause.as_mut().poll(cx).is_pending() {
                    return;
                }
                self.pause = None;
            }
            match self.listener.poll_accept(cx) {
                Poll::Pending => return,
                Poll::Ready(Ok((socket, address))) => self.begin(socket, address),
                Poll::Ready(Err(error)) => {
                    if !matches!(error.raw_os_error(), Some(libc::ECONNABORTED | libc::EINTR)) {
                        tracing::error!(address = %self.address, %error, "accepting a connection");
                        self.pause = Some(Box::pin(sleep(PAUSE)));
                    }
                }
            }
        }
    }

    fn begin(&mut self, socket: TcpStream, address: SocketAddr) {
        let ticket = match self.admission.arrive(address.ip()) {
            Ok(ticket) => ticket,
            Err(full) => return turned_away(address, full),
        };
        let handshake = handshake(
            socket,
            address,
            Arc::clone(&self.configs),
            self.limits,
            self.cutter.clone(),
            self.trust.clone(),
            ticket,
        );
        self.handshakes.spawn(handshake);
    }
}

async fn handshake(
    socket: TcpStream,
    address: SocketAddr,
    configs: Arc<dyn ServerConfigSource>,
    limits: TlsLimits,
    cutter: Cutter,
    trust: Option<Arc<dyn Trust>>,
    ticket: Ticket,
) -> Option<TlsConn> {
    let shaken = timeout(limits.handshake, async {
        socket.set_nodelay(true)?;
        // The client speaks first; only then do we choose, and pay.
        let started = LazyConfigAcceptor::new(Acceptor::default(), socket).await?;
        started.into_stream(configs.current()).await
    })
    .await;
    match shaken {
        Ok(Ok(stream)) => TlsConn::new(stream, address, &limits, &cutter, trust, ticket)
            .inspect_err(|full| turned_away(address, *full))
            .ok(),
        Ok(Err(error)) => {
            tracing::debug!(peer = %address, %error, "handshake failed");
            None
        }
        Err(_) => {
            tracing::debug!(peer = %address, "handshake took too long");
            None
        }
    }
}

fn turned_away(peer: SocketAddr, reason: Full) {
    tracing::debug!(%peer, %reason, "connection turned away");
}

impl Stream for TlsDoor {
    type Item = io::Result<TlsConn>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            this.poll_accept(cx);
            match this.handshakes.poll_join_next(cx) {
                Poll::Ready(Some(Ok(Some(conn)))) => return Poll::Ready(Some(Ok(conn))),
                // A handshake is over: there may be room for another.
                Poll::Ready(Some(Ok(None))) => {}
                Poll::Ready(Some(Err(error))) => tracing::error!(%error, "a handshake panicked"),
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl fmt::Debug for TlsDoor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsDoor")
            .field("address", &self.address)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
