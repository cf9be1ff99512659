//! Why a caller gets nothing.

/// Why presence is not given, or not any more.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The PING was not answered in time: the program does not read its connection now, or is no HTTP/2 endpoint.
    #[error("process {pid} did not prove its presence in time")]
    Silent {
        /// The pinned process.
        pid: i32,
    },
    /// Bytes came from another process than the one that connected.
    #[error("process {pid} connected, but process {sender} sent on its connection")]
    OtherSender {
        /// The pinned process.
        pid: i32,
        /// Who sent; 0 when the kernel can't name it in our PID namespace.
        sender: i32,
    },
    /// Descriptors were passed along with the bytes.
    #[error("process {pid} passed descriptors on its connection")]
    Descriptors {
        /// The pinned process.
        pid: i32,
    },
    /// The evidence is not what it was when facts were taken.
    #[error("{changed} of process {pid} changed")]
    Changed {
        /// The pinned process.
        pid: i32,
        /// What changed first.
        changed: Changed,
    },
    /// The process exited.
    #[error("process {pid} has ended")]
    Ended {
        /// The pinned process.
        pid: i32,
    },
    /// Evidence could not be read.
    #[error("evidence of process {pid} cannot be read: {reason}")]
    Unreadable {
        /// The pinned process.
        pid: i32,
        /// What the kernel said.
        reason: String,
    },
    /// The caller's uid has no number in our user namespace, or is the one that stands for such.
    #[error("process {pid} runs as uid {uid}, which stands for users without a number here")]
    Unmapped {
        /// The pinned process.
        pid: i32,
        /// The overflow uid.
        uid: u32,
    },
    /// What came is no HTTP/2, or more of it than the limits allow.
    #[error("process {pid} sent what the door does not accept: {reason}")]
    Protocol {
        /// The pinned process.
        pid: i32,
        /// Which rule was broken.
        reason: String,
    },
    /// The connection has been closed.
    #[error("the connection of process {pid} is closed")]
    Closed {
        /// The pinned process.
        pid: i32,
    },
}

/// What of the evidence changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Changed {
    /// Another program runs in the process.
    Executable,
    /// It was moved to another control group.
    Cgroup,
    /// A user or group id changed.
    Ids,
    /// Its supplementary groups.
    Groups,
    /// It entered another user namespace.
    UserNamespace,
    /// Its facts rest on evidence that has been replaced since.
    Proof,
}

impl std::fmt::Display for Changed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Executable => "the executable",
            Self::Cgroup => "the control group",
            Self::Ids => "a user or group id",
            Self::Groups => "the supplementary groups",
            Self::UserNamespace => "the user namespace",
            Self::Proof => "the evidence",
        })
    }
}

impl Refusal {
    /// Whether the same caller may succeed by trying again: answer Unavailable then, else PermissionDenied.
    pub fn is_temporary(&self) -> bool {
        matches!(
            self,
            Self::Silent { .. } | Self::Unreadable { .. } | Self::Closed { .. } | Self::Ended { .. }
        )
    }

    /// Whether no new proof can mend it: the connection itself is spoilt.
    pub(crate) fn is_final(&self) -> bool {
        !matches!(
            self,
            Self::Silent { .. } | Self::Changed { .. } | Self::Unreadable { .. }
        )
    }
}
