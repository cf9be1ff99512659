//! One connection after its handshake.

use std::{
    fmt,
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::{
    admission::{Full, Ticket},
    limits::TlsLimits,
    peer::TlsPeer,
    trust::{Lost, Trust},
};
use crate::{
    cut::{Cut, Cutter},
    http2::{Authority, Inbound, Outbound},
};

/// An accepted connection of a [`TlsDoor`](crate::TlsDoor), with [`TlsPeer`] as its connection info.
///
/// It ends with its peer's certificate, or soon if there is none; when its frames break the bounds; and when the door
/// is cut.
pub struct TlsConn {
    stream: TlsStream<TcpStream>,
    peer: TlsPeer,
    inbound: Inbound,
    outbound: Outbound,
    /// Until the peer has said that it speaks HTTP/2.
    preface: Option<Pin<Box<Sleep>>>,
    /// Until it may not be used any more.
    end: Option<Pin<Box<Sleep>>>,
    cut: Cut,
    /// Until what it was let in by is taken back.
    lost: Option<Lost>,
    _ticket: Ticket,
}

/// What is valid until a second is valid in it (RFC 5280 4.1.2.5). It is also time for those who tell the peer.
const LAST_SECOND: Duration = Duration::from_secs(1);

impl TlsConn {
    pub(super) fn new(
        stream: TlsStream<TcpStream>,
        address: SocketAddr,
        limits: &TlsLimits,
        door: &Cutter,
        trust: Option<Arc<dyn Trust>>,
        ticket: Ticket,
    ) -> Result<Self, Full> {
        let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let ticket = ticket.shaken(certificates.first())?;
        let cut = door.watch();
        let peer = TlsPeer::new(address, certificates);
        let life = if certificates.is_empty() {
            Some(limits.anonymous_life)
        } else {
            peer.valid_for().map(|valid| valid + LAST_SECOND)
        };
        let lost = trust
            .filter(|_| !certificates.is_empty())
            .map(|trust| trust.lost(Arc::clone(&peer.certificates)));
        Ok(Self {
            peer,
            stream,
            // Clients of TCP send an `:authority` that is one: what they send is counted and not changed.
            inbound: Inbound::new(Authority::Kept),
            outbound: Outbound::default(),
            preface: Some(Box::pin(sleep(limits.preface))),
            end: life.map(|life| Box::pin(sleep(life))),
            cut,
            lost,
            _ticket: ticket,
        })
    }

    /// Looks at everything that ends a connection without a byte from the peer.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if self.cut.poll(cx).is_ready() {
            return Poll::Ready(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the connection was ended from our side",
            ));
        }
        if let Some(lost) = &mut self.lost
            && lost.as_mut().poll(cx).is_ready()
        {
            tracing::info!(peer = %self.peer.address, "connection ended: its peer's authority is trusted no more");
            // It answers once; a connection that is polled again after its end gets the same.
            self.lost = Some(Box::pin(std::future::ready(())));
            return Poll::Ready(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the peer's authority is trusted no more",
            ));
        }
        if passed(&mut self.preface, cx) {
            return Poll::Ready(io::Error::new(
                io::ErrorKind::TimedOut,
                "no HTTP/2 preface in time",
            ));
        }
        if passed(&mut self.end, cx) {
            let reason = if self.peer.certificates.is_empty() {
                "a caller without a certificate may stay no longer"
            } else {
                "the peer's certificate has ended"
            };
            return Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, reason));
        }
        Poll::Pending
    }

    /// Judges what was received.
    fn received(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        if let Err(error) = self.inbound.feed(bytes, None) {
            tracing::warn!(peer = %self.peer.address, reason = %error, "connection closed");
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        if self.inbound.has_begun() {
            self.preface = None;
        }
        Ok(())
    }

    fn sent(&mut self, parts: &[IoSlice<'_>], mut count: usize) {
        for part in parts {
            let here = count.min(part.len());
            self.outbound.advance(&part[..here], &mut self.inbound.budget);
            count -= here;
        }
    }
}

fn passed(deadline: &mut Option<Pin<Box<Sleep>>>, cx: &mut Context<'_>) -> bool {
    deadline
        .as_mut()
        .is_some_and(|deadline| deadline.as_mut().poll(cx).is_ready())
}

impl AsyncRead for TlsConn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Poll::Ready(error) = this.poll_end(cx) {
            return Poll::Ready(Err(error));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        Poll::Ready(this.received(&mut buf.filled_mut()[before..]))
    }
}

impl AsyncWrite for TlsConn {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, buf))?;
        self.sent(&[IoSlice::new(buf)], written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, bufs))?;
        self.sent(bufs, written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Connected for TlsConn {
    type ConnectInfo = TlsPeer;

    fn connect_info(&self) -> TlsPeer {
        self.peer.clone()
    }
}

impl fmt::Debug for TlsConn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConn")
            .field("address", &self.peer.address)
            .finish_non_exhaustive()
    }
}
