//! Accepting on a Unix socket that must stay reachable: out of descriptors, removed, or in the middle of a flood.

use std::{
    fs::File,
    io,
    os::fd::OwnedFd,
    path::Path,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    net::{UnixListener, UnixStream},
    time::{Interval, MissedTickBehavior, Sleep, interval, sleep},
};

use crate::bind::{BindError, BoundSocket};

/// How soon a removed socket is noticed.
const LOOK: Duration = Duration::from_secs(1);

/// How long to wait when the kernel has nothing to accept with: without a pause we would spin.
const PAUSE: Duration = Duration::from_millis(20);

/// A listening Unix socket.
#[derive(Debug)]
pub(crate) struct UnixAcceptor {
    bound: BoundSocket,
    listener: UnixListener,
    mode: u32,
    look: Interval,
    pause: Option<Pin<Box<Sleep>>>,
    /// Given up when descriptors run out, so that the connection at hand can be accepted and closed rather than keep
    /// its client waiting for an answer that will not come.
    reserve: Option<File>,
    /// The last failure to put the socket back, to say each one once.
    complaint: Option<String>,
}

impl UnixAcceptor {
    pub(crate) fn bind(path: &Path, mode: u32) -> Result<Self, BindError> {
        Self::over(BoundSocket::bind(path, mode)?, mode)
    }

    /// Accepts on a socket that was passed to us. If its name is removed, that is said and not repaired: a socket of our
    /// own would stand in the way of the one that the service manager keeps and passes to us again.
    pub(crate) fn adopt(listener: OwnedFd, path: &Path, mode: u32) -> Result<Self, BindError> {
        Self::over(BoundSocket::adopt(listener, path, mode)?, mode)
    }

    fn over(
        (bound, listener): (BoundSocket, std::os::unix::net::UnixListener),
        mode: u32,
    ) -> Result<Self, BindError> {
        let listener = listen(bound.path(), listener)?;
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            bound,
            listener,
            mode,
            look,
            pause: None,
            reserve: spare(),
            complaint: None,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        self.bound.path()
    }

    /// The next connection. Failures of the kernel are logged and survived.
    pub(crate) fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<UnixStream> {
        while self.look.poll_tick(cx).is_ready() {
            self.put_back();
        }
        loop {
            if let Some(pause) = &mut self.pause {
                std::task::ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            match std::task::ready!(self.listener.poll_accept(cx)) {
                Ok((stream, _)) => return Poll::Ready(stream),
                Err(error) => self.failed(&error),
            }
        }
    }

    fn failed(&mut self, error: &io::Error) {
        match error.raw_os_error() {
            // The client gave up before we came.
            Some(libc::ECONNABORTED | libc::EINTR) => {}
            Some(libc::EMFILE | libc::ENFILE) => {
                tracing::error!(path = %self.path().display(), %error, "out of descriptors: a connection is closed unserved");
                if self.reserve.take().is_some() {
                    // The listener does not block, so this takes the one connection and closes it, or nothing.
                    let _ =
                        nix::sys::socket::accept(std::os::fd::AsRawFd::as_raw_fd(&self.listener)).map(close);
                }
                self.reserve = spare();
                self.pause = Some(Box::pin(sleep(PAUSE)));
            }
            _ => {
                tracing::error!(path = %self.path().display(), %error, "accepting a connection");
                self.pause = Some(Box::pin(sleep(PAUSE)));
            }
        }
    }

    /// Binds anew if the path does not lead to our socket any more. Connections that are open are not touched.
    fn put_back(&mut self) {
        if self.bound.is_in_place() {
            self.complaint = None;
            return;
        }
        let again = self
            .bound
            .again(self.mode)
            .and_then(|(bound, listener)| Ok((bound, listen(self.path(), listener)?)));
        match again {
            Ok((bound, listener)) => {
                tracing::warn!(path = %self.path().display(), "the socket had been removed and was put back");
                (self.bound, self.listener) = (bound, listener);
                self.complaint = None;
            }
            Err(error) => {
                let complaint = error.to_string();
                if self.complaint.as_ref() != Some(&complaint) {
                    tracing::error!(path = %self.path().display(), error = %complaint, "the socket was removed and cannot be put back");
                    self.complaint = Some(complaint);
                }
            }
        }
    }
}

fn listen(path: &Path, listener: std::os::unix::net::UnixListener) -> Result<UnixListener, BindError> {
    UnixListener::from_std(listener).map_err(|source| BindError::Io {
        action: "watching",
        path: path.to_owned(),
        source,
    })
}

fn spare() -> Option<File> {
    File::open("/dev/null").ok()
}

fn close(fd: i32) {
    let _ = nix::unistd::close(fd);
}
