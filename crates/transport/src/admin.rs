//! The plain door of operators: rights are those of the socket's mode and group, and the audit log gets who it was.

use std::{
    io::{self, IoSlice},
    path::Path,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::UnixStream,
};
use tokio_stream::Stream;
use tonic::transport::server::Connected;

use crate::{
    accept::UnixAcceptor,
    bind::BindError,
    cut::{Cut, Cutter},
};

/// An administration socket. As a stream it gives [`AdminConn`]s, and never an error.
#[derive(Debug)]
pub struct AdminDoor {
    acceptor: UnixAcceptor,
    cutter: Cutter,
}

/// Who connected to an [`AdminDoor`], for the audit log. The pid is as of `connect`, and no more than a number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AdminPeer {
    /// The process, 0 if it stands outside our PID namespace.
    pub pid: i32,
    /// Its effective uid.
    pub uid: u32,
    /// Its effective gid.
    pub gid: u32,
}

/// A connection of an [`AdminDoor`].
#[derive(Debug)]
pub struct AdminConn {
    socket: UnixStream,
    peer: AdminPeer,
    cut: Cut,
}

impl AdminDoor {
    /// Binds `path` with `mode`, by the same rules as the Workload API's socket.
    pub fn bind(path: &Path, mode: u32) -> Result<Self, BindError> {
        Ok(Self {
            acceptor: UnixAcceptor::bind(path, mode)?,
            cutter: Cutter::default(),
        })
    }

    /// Ends the connections when the drain deadline has passed.
    pub fn cutter(&self) -> Cutter {
        self.cutter.clone()
    }

    /// Where the socket is.
    pub fn path(&self) -> &Path {
        self.acceptor.path()
    }
}

impl Stream for AdminDoor {
    type Item = io::Result<AdminConn>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let socket = ready!(self.acceptor.poll_accept(cx));
            match socket.peer_cred() {
                Ok(peer) => {
                    let peer = AdminPeer {
                        pid: peer.pid().unwrap_or(0),
                        uid: peer.uid(),
                        gid: peer.gid(),
                    };
                    let cut = self.cutter.watch();
                    return Poll::Ready(Some(Ok(AdminConn { socket, peer, cut })));
                }
                // Without a name for the audit log nobody comes in.
                Err(error) => tracing::error!(path = %self.path().display(), %error, "reading who connected"),
            }
        }
    }
}

impl AsyncRead for AdminConn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.cut.poll(cx).is_ready() {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the door is closing",
            )));
        }
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for AdminConn {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

impl Connected for AdminConn {
    type ConnectInfo = AdminPeer;

    fn connect_info(&self) -> AdminPeer {
        self.peer
    }
}
