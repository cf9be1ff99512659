//! The doors: where other processes and machines reach a daemon, and what the kernel and TLS say of them.
//!
//! ```text
//! process ─connect→ UdsDoor ─pidfd, limits→ UdsConn ─evidence, PING, sender of each segment→ Presence ─→ handlers
//! machine ─connect→ TlsDoor ─handshake with today's configuration→ TlsConn ─TlsPeer─→ handlers
//! ```
//!
//! A Unix connection says who connected, not who speaks: a descriptor is inherited by forks, kept over an exec and
//! passed to strangers. So [`UdsConn`] pins the connecting process by pidfd, takes [`Evidence`] of what it is, asks it
//! an HTTP/2 PING whose 8 random bytes nobody can know beforehand, and lets the kernel name the sender of every segment
//! (`SO_PASSCRED`). The answer must come from the pinned process, with the evidence unchanged; then it is *present*.
//! This works with unchanged clients, because answering a PING is the duty of every HTTP/2 endpoint (RFC 9113 6.7).
//!
//! Inside a user namespace of its own, anybody can forge sender pids and `/proc/PID/exe`; so a caller outside our
//! namespaces stands [`Standing::Foreign`]: it keeps its uid and cgroup, and has neither executable nor presence.
//!
//! Trusted: the kernel. Not trusted: every byte from a peer, the directory a socket lies in, the number a pid is.
//! What it does not prove: that a program is not led by its user (`LD_PRELOAD`, ptrace, a shell), or only shown by a
//! process of that user's (`PR_SET_MM_MAP` by a child that shares its memory).
//! Begin at [`UdsDoor`], then [`Presence`].

mod accept;
mod admin;
mod bind;
mod cut;
mod evidence;
mod http2;
mod https;
mod kernel;
mod namespaces;
mod passed;
mod presence;
mod process;
mod refusal;
mod tls;
mod uds;

pub use admin::{AdminConn, AdminDoor, AdminPeer};
pub use bind::BindError;
pub use cut::Cutter;
pub use evidence::{Cgroups, Evidence, ForeignReason, GroupsHash, Ids, Look, Standing};
pub use http2::h2_limits;
pub use https::{HttpsClient, HttpsError, HttpsTls};
pub use kernel::{FileId, KernelSupport, NamespaceId};
pub use passed::{PassedError, PassedSockets};
pub use presence::{PROOF_TIMEOUT, Presence};
pub use process::Process;
pub use refusal::{Changed, Refusal};
pub use tls::{Lost, ServerConfigSource, TlsConn, TlsDoor, TlsLimits, TlsPeer, Trust};
pub use uds::{UdsConn, UdsDoor, UdsLimits};

/// The parts that read hostile bytes, for fuzz targets; nothing of it is promised.
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::http2::{FrameError, Inbound};

    /// Reads one text as `/proc/PID/stat` (the start time) and as `/proc/PID/status` (the user ids).
    pub fn proc_texts(text: &[u8]) -> (Option<u64>, Option<[u32; 3]>) {
        crate::evidence::proc_texts(text)
    }
}
