//! Who did it.

use muster_identity::SpiffeId;
use serde::Serialize;

use crate::text::Text;

/// The principal of an event, as it was established, never as it named itself.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Actor {
    /// The daemon itself, by its own clockwork: rotation, expiry, start.
    Daemon,
    /// A person or program on an administration socket of this machine.
    Local {
        /// The uid that the kernel gave.
        uid: u32,
        /// The process, for correlation only: a pid is no identity.
        pid: i32,
    },
    /// A node, by its certificate.
    Node {
        /// Its SPIFFE ID.
        id: Text,
    },
    /// A process on this machine.
    Workload {
        /// The uid that the kernel gave.
        uid: u32,
        /// The process, for correlation only.
        pid: i32,
    },
    /// A caller who showed an X.509-SVID.
    Caller {
        /// Its SPIFFE ID.
        id: Text,
    },
    /// Nobody that could be established.
    Unknown {
        /// Where the call came from.
        from: Text,
    },
}

impl Actor {
    /// A process on an administration socket.
    pub fn local(uid: u32, pid: i32) -> Self {
        Self::Local { uid, pid }
    }

    /// A node.
    pub fn node(id: &SpiffeId) -> Self {
        Self::Node { id: Text::new(id) }
    }

    /// A process that uses the Workload API.
    pub fn workload(uid: u32, pid: i32) -> Self {
        Self::Workload { uid, pid }
    }

    /// A caller with an X.509-SVID.
    pub fn caller(id: &SpiffeId) -> Self {
        Self::Caller { id: Text::new(id) }
    }

    /// A caller without an established identity, by its address.
    pub fn unknown(from: impl std::fmt::Display) -> Self {
        Self::Unknown {
            from: Text::new(from),
        }
    }
}
