//! The plain door of operators: rights are those of the socket's mode and group, and the audit log gets who it was.

use std::{
    io::{self, IoSlice},
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::UnixStream,
    time::Instant,
};
use tokio_stream::Stream;
use tonic::transport::server::Connected;

use crate::{
    accept::UnixAcceptor,
    bind::BindError,
    cut::{Cut, Cutter},
    uds::{Account, Admission, Full, Permit, UdsLimits},
};

/// How many connections the door holds. A person's command needs one, a controller a few: who holds more has lost them,
/// and must not shut out the person who comes to look. An eighth is kept for uids that hold few.
const LIMITS: UdsLimits = UdsLimits {
    per_caller: PER_USER,
    per_user: PER_USER,
    total: 512,
    // Nothing here waits for a client's first bytes: one that says nothing holds its own uid's place.
    preface: Duration::ZERO,
};
const PER_USER: usize = 128;

/// How often it is said aloud that connections are turned away.
const SAID_EVERY: Duration = Duration::from_secs(10);

/// An administration socket. As a stream it gives [`AdminConn`]s, and never an error.
#[derive(Debug)]
pub struct AdminDoor {
    acceptor: UnixAcceptor,
    admission: Arc<Admission>,
    cutter: Cutter,
    said: Option<Instant>,
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
    _permit: Permit,
}

impl AdminDoor {
    /// Binds `path` with `mode`, by the same rules as the Workload API's socket.
    pub fn bind(path: &Path, mode: u32) -> Result<Self, BindError> {
        Ok(Self {
            acceptor: UnixAcceptor::bind(path, mode)?,
            admission: Admission::new(LIMITS),
            cutter: Cutter::default(),
            said: None,
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

    fn admit(&self, uid: u32) -> Result<Permit, Full> {
        // The control group does not matter here: rights are those of the uid.
        self.admission.admit(Account {
            uid,
            cgroup: Arc::default(),
        })
    }

    fn turn_away(&mut self, uid: u32, reason: Full) {
        if self.said.is_none_or(|said| said.elapsed() >= SAID_EVERY) {
            self.said = Some(Instant::now());
            tracing::warn!(path = %self.path().display(), uid, %reason, "connection turned away");
        }
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
                    let permit = match self.admit(peer.uid) {
                        Ok(permit) => permit,
                        Err(full) => {
                            self.turn_away(peer.uid, full);
                            continue;
                        }
                    };
                    let cut = self.cutter.watch();
                    return Poll::Ready(Some(Ok(AdminConn {
                        socket,
                        peer,
                        cut,
                        _permit: permit,
                    })));
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

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio_stream::StreamExt as _;

    use super::*;

    #[tokio::test]
    async fn past_its_bound_a_user_is_turned_away_until_it_lets_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let mut door = AdminDoor::bind(&path, 0o700).unwrap();
        let mut held = Vec::new();
        for _ in 0..PER_USER {
            let client = UnixStream::connect(&path).await.unwrap();
            held.push((client, door.next().await.unwrap().unwrap()));
        }
        let mut one_more = UnixStream::connect(&path).await.unwrap();
        let mut byte = [0];
        tokio::select! {
            end = one_more.read(&mut byte) => assert!(matches!(end, Ok(0) | Err(_))),
            _ = door.next() => panic!("one too many came in"),
        }
        held.pop();
        let _client = UnixStream::connect(&path).await.unwrap();
        door.next().await.unwrap().unwrap();
    }
}
