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

use rustls::pki_types::CertificateDer;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::OwnedSemaphorePermit,
    time::Sleep,
};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use crate::cut::Cut;

/// Who is at the other end of a [`TlsConn`].
#[derive(Clone, Debug)]
pub struct TlsPeer {
    /// Where it connected from.
    pub address: SocketAddr,
    /// The chain that it presented and that the configuration's verifier accepted, leaf first; empty if it gave none.
    pub certificates: Arc<[CertificateDer<'static>]>,
}

/// An accepted connection of a [`TlsDoor`](crate::TlsDoor), with [`TlsPeer`] as its connection info.
pub struct TlsConn {
    stream: TlsStream<TcpStream>,
    peer: TlsPeer,
    /// Until the first byte after the handshake.
    deadline: Option<Pin<Box<Sleep>>>,
    cut: Cut,
    _permit: OwnedSemaphorePermit,
}

impl TlsConn {
    pub(super) fn new(
        stream: TlsStream<TcpStream>,
        address: SocketAddr,
        first_byte: Duration,
        cut: Cut,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let certificates = certificates
            .iter()
            .map(|certificate| certificate.clone().into_owned())
            .collect();
        Self {
            peer: TlsPeer {
                address,
                certificates,
            },
            stream,
            deadline: Some(Box::pin(tokio::time::sleep(first_byte))),
            cut,
            _permit: permit,
        }
    }
}

impl AsyncRead for TlsConn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.cut.poll(cx).is_ready() {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the door is closing",
            )));
        }
        if let Some(deadline) = &mut this.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "nothing came after the handshake",
            )));
        }
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        this.deadline = None;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TlsConn {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
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
