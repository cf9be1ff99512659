//! One connection: reads that name their sender, writes that carry our PING.

use std::{
    fmt,
    io::{self, IoSlice},
    os::fd::AsFd,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use nix::sys::uio::writev;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::UnixStream,
    time::Sleep,
};
use tonic::transport::server::Connected;

use super::admission::Permit;
use crate::{
    cut::Cut,
    http2::{Inbound, Outbound, PING_LENGTH, ping_frame},
    kernel::receive,
    presence::Presence,
    refusal::Refusal,
};

/// An accepted connection of a [`UdsDoor`](crate::UdsDoor), with [`Presence`] as its connection info.
///
/// It ends when its process exits, whoever else still holds the descriptor; when anybody but that process sends on it;
/// when its frames break the bounds; and when the door is cut.
pub struct UdsConn {
    socket: UnixStream,
    presence: Presence,
    inbound: Inbound,
    outbound: Outbound,
    ping: Ping,
    /// Until the peer has said that it speaks HTTP/2.
    deadline: Option<Pin<Box<Sleep>>>,
    cut: Cut,
    _permit: Permit,
}

/// Our PING of the current round.
#[derive(Clone, Copy, Debug)]
enum Ping {
    /// None is under way.
    Idle,
    /// Leaves at the next boundary.
    Due(Challenge),
    /// Cut off by a full socket; nothing else may be written before the rest.
    Sending(Challenge, usize),
    /// The answer is awaited.
    Sent(Challenge),
}

#[derive(Clone, Copy)]
struct Challenge {
    round: u64,
    nonce: [u8; 8],
}

impl UdsConn {
    pub(super) fn new(
        socket: UnixStream,
        presence: Presence,
        permit: Permit,
        preface: Duration,
        cut: Cut,
    ) -> Self {
        Self {
            socket,
            presence,
            inbound: Inbound::default(),
            outbound: Outbound::default(),
            ping: Ping::Idle,
            deadline: Some(Box::pin(tokio::time::sleep(preface))),
            cut,
            _permit: permit,
        }
    }

    fn pid(&self) -> i32 {
        self.presence.process().pid()
    }

    fn refuse(&self, refusal: Refusal) -> io::Error {
        tracing::warn!(pid = self.pid(), reason = %refusal, "connection closed");
        let error = io::Error::new(io::ErrorKind::PermissionDenied, refusal.to_string());
        self.presence.refuse(refusal);
        error
    }

    /// Begins a new round if one is wanted. A PING of an earlier round that has begun to leave is completed first.
    fn arm(&mut self) -> io::Result<()> {
        if matches!(self.ping, Ping::Sending(..)) {
            return Ok(());
        }
        if let Some(round) = self.presence.claim_ping() {
            let mut nonce = [0; 8];
            aws_lc_rs::rand::fill(&mut nonce).map_err(|_| io::Error::other("no random bytes for a PING"))?;
            self.ping = Ping::Due(Challenge { round, nonce });
        }
        Ok(())
    }

    /// Looks at everything that ends a connection without a byte from the peer.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if self.presence.process().poll_ended(cx).is_ready() {
            let pid = self.pid();
            self.presence.refuse(Refusal::Ended { pid });
            return Poll::Ready(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the process has ended",
            ));
        }
        if self.cut.poll(cx).is_ready() {
            return Poll::Ready(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the door is closing",
            ));
        }
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(io::Error::new(
                io::ErrorKind::TimedOut,
                "no HTTP/2 preface in time",
            ));
        }
        Poll::Pending
    }

    /// Judges what was received, and repairs it in place.
    fn received(&mut self, bytes: &mut [u8], sender: Option<i32>, extra: bool) -> io::Result<()> {
        let pid = self.pid();
        if extra {
            return Err(self.refuse(Refusal::Descriptors { pid }));
        }
        if sender != Some(pid) {
            return Err(self.refuse(Refusal::OtherSender {
                pid,
                sender: sender.unwrap_or(0),
            }));
        }
        let expected = match self.ping {
            Ping::Sent(challenge) => Some(challenge),
            _ => None,
        };
        match self
            .inbound
            .feed(bytes, expected.map(|challenge| challenge.nonce))
        {
            Ok(answered) => {
                if self.inbound.has_begun() {
                    self.deadline = None;
                }
                if let (true, Some(challenge)) = (answered, expected) {
                    self.ping = Ping::Idle;
                    self.presence.answered(challenge.round);
                }
                Ok(())
            }
            Err(error) => Err(self.refuse(Refusal::Protocol {
                pid,
                reason: error.to_string(),
            })),
        }
    }

    /// Writes from `bytes`, and our PING in the same call where it is due and may stand. Answers how many of `bytes`
    /// went; zero only if there are none.
    fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            self.arm()?;
            let (challenge, sent, room) = match self.ping {
                Ping::Sending(challenge, sent) => (challenge, sent, Some(0)),
                Ping::Due(challenge) => (challenge, 0, self.outbound.room_for_ping(bytes)),
                Ping::Idle | Ping::Sent(_) => return self.poll_plain(cx, &[IoSlice::new(bytes)]),
            };
            let Some(room) = room else {
                return self.poll_plain(cx, &[IoSlice::new(bytes)]);
            };
            ready!(self.socket.poll_write_ready(cx))?;
            let frame = ping_frame(challenge.nonce);
            let parts = [
                IoSlice::new(&bytes[..room]),
                IoSlice::new(&frame[sent..]),
                IoSlice::new(&bytes[room..]),
            ];
            let written = match self
                .socket
                .try_io(Interest::WRITABLE, || Ok(writev(self.socket.as_fd(), &parts)?))
            {
                Ok(written) => written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Poll::Ready(Err(error)),
            };
            let before = written.min(room);
            let ping = (written - before).min(PING_LENGTH - sent);
            let after = written - before - ping;
            // The PING itself is no part of what the tracker sees: it stands between two frames.
            self.outbound.advance(&bytes[..before], &mut self.inbound.budget);
            self.outbound
                .advance(&bytes[room..room + after], &mut self.inbound.budget);
            self.ping = match sent + ping {
                0 => Ping::Due(challenge),
                PING_LENGTH => Ping::Sent(challenge),
                sent => Ping::Sending(challenge, sent),
            };
            if before + after > 0 || (bytes.is_empty() && matches!(self.ping, Ping::Sent(_))) {
                return Poll::Ready(Ok(before + after));
            }
        }
    }

    fn poll_plain(&mut self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if parts.iter().all(|part| part.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        let written = ready!(Pin::new(&mut self.socket).poll_write_vectored(cx, parts))?;
        let mut left = written;
        for part in parts {
            let here = left.min(part.len());
            self.outbound.advance(&part[..here], &mut self.inbound.budget);
            left -= here;
        }
        Poll::Ready(Ok(written))
    }

    /// Sends a PING on a connection on which nothing else is being written, if one is due and may stand.
    fn poll_ping(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.arm()?;
        let sendable = match self.ping {
            Ping::Sending(..) => true,
            Ping::Due(_) => self.outbound.room_for_ping(&[]).is_some(),
            Ping::Idle | Ping::Sent(_) => false,
        };
        if sendable && let Poll::Ready(Err(error)) = self.poll_send(cx, &[]) {
            return Err(error);
        }
        Ok(())
    }
}

impl AsyncRead for UdsConn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.presence.begin();
        if let Poll::Ready(error) = this.poll_end(cx) {
            return Poll::Ready(Err(error));
        }
        // Registered first, so that a round which begins now wakes us.
        this.presence.register(cx);
        this.poll_ping(cx)?;
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            ready!(this.socket.poll_read_ready(cx))?;
            let bytes = buf.initialize_unfilled();
            let received = match this
                .socket
                .try_io(Interest::READABLE, || receive(this.socket.as_fd(), bytes))
            {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            if received.length > 0 {
                this.received(&mut bytes[..received.length], received.sender, received.extra)?;
                buf.advance(received.length);
            }
            return Poll::Ready(Ok(()));
        }
    }
}

impl AsyncWrite for UdsConn {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.presence.begin();
        self.poll_send(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.presence.begin();
        self.arm()?;
        if matches!(self.ping, Ping::Idle | Ping::Sent(_)) {
            return self.poll_plain(cx, bufs);
        }
        let first = bufs.iter().find(|buf| !buf.is_empty()).map_or(&[][..], |buf| buf);
        self.poll_send(cx, first)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if matches!(self.ping, Ping::Sending(..)) {
            ready!(self.poll_send(cx, &[]))?;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

impl Connected for UdsConn {
    type ConnectInfo = Presence;

    fn connect_info(&self) -> Presence {
        self.presence.clone()
    }
}

impl Drop for UdsConn {
    fn drop(&mut self) {
        let pid = self.pid();
        self.presence.refuse(Refusal::Closed { pid });
    }
}

impl fmt::Debug for UdsConn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UdsConn")
            .field("presence", &self.presence)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Challenge {
    /// The nonce is a secret until it is sent.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Challenge(round {})", self.round)
    }
}
