//! The door itself: who may come in.

use std::{
    fmt, io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{net::UnixStream, time::Instant};
use tokio_stream::Stream;

use super::{
    UdsLimits,
    admission::{Account, Admission, Full},
    conn::UdsConn,
};
use crate::{
    accept::UnixAcceptor,
    bind::BindError,
    cut::Cutter,
    evidence::CGROUP_LIMIT,
    kernel::{Kernel, KernelSupport, Linux, ProcFile},
    namespaces::Namespaces,
    presence::Presence,
    process::{PinError, Process},
    refusal::Refusal,
};

/// Connections that are turned away before other tasks get their turn.
const SHED_AT_ONCE: usize = 32;

/// How often one is said aloud, with the number of those in between: who is turned away learns nothing, so an operator
/// must, and a flood of them must not fill the log.
const SAID_EVERY: Duration = Duration::from_secs(10);

/// A Unix socket whose every connection is pinned to the process that made it. As a stream it gives
/// [`UdsConn`]s to `serve_with_incoming_shutdown`, and never an error.
pub struct UdsDoor {
    acceptor: UnixAcceptor,
    kernel: Arc<dyn Kernel>,
    namespaces: Arc<Namespaces>,
    support: KernelSupport,
    admission: Arc<Admission>,
    cutter: Cutter,
    overflow_uid: u32,
    said: Option<Instant>,
    unsaid: u64,
}

impl UdsDoor {
    /// Binds `path` with `mode`. Fails rather than stand where another user could take our place.
    pub fn bind(path: &Path, mode: u32, limits: UdsLimits) -> Result<Self, BindError> {
        Self::over(path, limits, || UnixAcceptor::bind(path, mode))
    }

    /// Serves on a `listener` that a service manager bound to `path` with `mode` and keeps while we restart. Fails if
    /// it is anything else than what [`bind`](Self::bind) would have made there.
    pub fn adopt(listener: OwnedFd, path: &Path, mode: u32, limits: UdsLimits) -> Result<Self, BindError> {
        Self::over(path, limits, || UnixAcceptor::adopt(listener, path, mode))
    }

    fn over(
        path: &Path,
        limits: UdsLimits,
        acceptor: impl FnOnce() -> Result<UnixAcceptor, BindError>,
    ) -> Result<Self, BindError> {
        let kernel: Arc<dyn Kernel> = Arc::new(Linux);
        let failed = |action| {
            move |source| BindError::Io {
                action,
                path: path.to_owned(),
                source,
            }
        };
        let support =
            KernelSupport::probe(&*kernel).map_err(failed("asking the kernel what it offers for"))?;
        let namespaces = Namespaces::of_this_process(&*kernel)
            .map_err(failed("reading our own namespaces (is /proc ours?) for"))?;
        Ok(Self {
            acceptor: acceptor()?,
            kernel,
            namespaces: Arc::new(namespaces),
            support,
            admission: Admission::new(limits),
            cutter: Cutter::default(),
            overflow_uid: overflow_uid(),
            said: None,
            unsaid: 0,
        })
    }

    /// What this kernel offers; what lacks belongs into health and log.
    pub fn support(&self) -> KernelSupport {
        self.support
    }

    /// Ends the connections when the drain deadline has passed.
    pub fn cutter(&self) -> Cutter {
        self.cutter.clone()
    }

    /// Where the socket is.
    pub fn path(&self) -> &Path {
        self.acceptor.path()
    }

    fn admit(&self, socket: UnixStream) -> Result<UdsConn, Turned> {
        let caller = self
            .kernel
            .peer_credentials(socket.as_fd())
            .map_err(PinError::Credentials)?;
        self.admission.is_full_for(caller.uid)?;
        let process = Process::pin(&self.kernel, socket.as_fd())?;
        let (pid, uid) = (process.pid(), process.uid());
        let cgroup = self
            .kernel
            .read(process.proc_dir(), ProcFile::Cgroup, CGROUP_LIMIT)
            .map_err(|source| PinError::Kernel {
                pid,
                action: "reading the control group",
                source,
            })?;
        let permit = self.admission.admit(Account {
            uid,
            cgroup: cgroup.into(),
        })?;
        let presence = Presence::new(process, Arc::clone(&self.namespaces));
        if uid == self.overflow_uid {
            // The handlers tell the caller why; closing would hide it.
            presence.refuse(Refusal::Unmapped { pid, uid });
        }
        Ok(UdsConn::new(
            socket,
            presence,
            permit,
            self.admission.limits().preface,
            self.cutter.watch(),
        ))
    }
}

impl UdsDoor {
    fn turn_away(&mut self, turned: &Turned) {
        // A caller that went away by itself is nobody's concern.
        let gone = matches!(turned, Turned::Pin(PinError::Ended(_)));
        if gone || self.said.is_some_and(|said| said.elapsed() < SAID_EVERY) {
            self.unsaid += u64::from(!gone);
            tracing::debug!(path = %self.path().display(), reason = %turned, "connection turned away");
            return;
        }
        let unsaid = std::mem::take(&mut self.unsaid);
        self.said = Some(Instant::now());
        tracing::warn!(path = %self.path().display(), reason = %turned, unsaid, "connection turned away");
    }
}

impl Stream for UdsDoor {
    type Item = io::Result<UdsConn>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        for _ in 0..SHED_AT_ONCE {
            let socket = ready!(self.acceptor.poll_accept(cx));
            match self.admit(socket) {
                Ok(conn) => return Poll::Ready(Some(Ok(conn))),
                Err(turned) => self.turn_away(&turned),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Why a connection was closed at once.
#[derive(Debug, thiserror::Error)]
enum Turned {
    #[error(transparent)]
    Full(#[from] Full),
    #[error(transparent)]
    Pin(#[from] PinError),
}

/// The uid that stands for users without a number in our user namespace.
fn overflow_uid() -> u32 {
    let text = std::fs::read_to_string("/proc/sys/kernel/overflowuid");
    text.ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(65_534)
}

impl fmt::Debug for UdsDoor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UdsDoor")
            .field("path", &self.path())
            .field("support", &self.support)
            .finish_non_exhaustive()
    }
}
