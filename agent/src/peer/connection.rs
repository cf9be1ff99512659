//! A connection to the Workload API, and what is remembered of its caller.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};

use muster_transport::{UdsConn, UdsDoor};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_stream::{Stream, StreamExt};
use tonic::transport::server::Connected;

use super::known::Known;
use super::watch::Watch;
use super::witness::Witness;

/// The process at the other end of a connection; the connection info of every request. Clones are handles.
#[derive(Clone)]
pub struct Peer(Arc<Inner>);

struct Inner {
    witness: Box<dyn Witness>,
    known: Mutex<Option<Arc<Known>>>,
    /// Requests that come at once on one connection wait for one attestation. It is a queue, and guards no data.
    turn: tokio::sync::Mutex<()>,
    /// How many streams are open on the connection.
    streams: AtomicUsize,
}

impl Peer {
    /// A caller of whom nothing is known yet.
    pub fn new(witness: impl Witness + 'static) -> Self {
        Self(Arc::new(Inner {
            witness: Box::new(witness),
            known: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            streams: AtomicUsize::new(0),
        }))
    }

    /// What the transport says of it.
    pub fn witness(&self) -> &dyn Witness {
        &*self.0.witness
    }

    pub(super) fn known(&self) -> Option<Arc<Known>> {
        self.lock().clone()
    }

    pub(super) fn remember(&self, known: Option<Arc<Known>>) {
        *self.lock() = known;
    }

    pub(super) async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.0.turn.lock().await
    }

    /// Counts a stream as long as the answer lives.
    pub(super) fn follow(&self) -> Followed {
        self.0.streams.fetch_add(1, Ordering::Relaxed);
        Followed(self.clone())
    }

    /// Whether a stream is open.
    pub(super) fn is_followed(&self) -> bool {
        self.0.streams.load(Ordering::Relaxed) > 0
    }

    pub(super) fn downgrade(&self) -> WeakPeer {
        WeakPeer(Arc::downgrade(&self.0))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Known>>> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream of a caller that is open. See [`AttestedCaller::follow`](super::AttestedCaller::follow).
#[derive(Debug)]
pub struct Followed(Peer);

impl Drop for Followed {
    fn drop(&mut self) {
        self.0.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection that may have been closed.
pub(super) struct WeakPeer(Weak<Inner>);

impl WeakPeer {
    pub(super) fn upgrade(&self) -> Option<Peer> {
        self.0.upgrade().map(Peer)
    }

    pub(super) fn is_gone(&self) -> bool {
        self.0.strong_count() == 0
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer")
            .field("pid", &self.witness().process().pid())
            .finish_non_exhaustive()
    }
}

/// An accepted connection with its [`Peer`].
#[derive(Debug)]
pub struct PeerConn {
    conn: UdsConn,
    peer: Peer,
}

/// The connections of a door, each with a place for what is found out about its caller, which `watch` looks after.
pub fn peers(door: UdsDoor, watch: Arc<Watch>) -> impl Stream<Item = io::Result<PeerConn>> {
    door.map(move |accepted| {
        accepted.map(|conn| {
            let peer = Peer::new(conn.connect_info());
            watch.add(&peer);
            PeerConn { conn, peer }
        })
    })
}

impl Connected for PeerConn {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for PeerConn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.conn).poll_read(cx, into)
    }
}

impl AsyncWrite for PeerConn {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.conn).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.conn).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.conn.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.conn).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.conn).poll_shutdown(cx)
    }
}
