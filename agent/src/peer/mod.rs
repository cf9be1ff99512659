//! Who calls: from a connection to a process whose facts are known and who is present.
//!
//! ```text
//! Witness ─evidence→ attestors side by side ─┐
//!    └────────PING out, answered─────────────┴─ the same evidence, still true → AttestedCaller
//! ```
//!
//! A caller whose streams are open is looked at each second by [`Watch`]: a stream ends when its caller is not what it was.
//!
//! Facts stand as long as their evidence stands: they are kept for the connection and measured anew when the evidence changed. A failed
//! attestor takes away its own facts and nothing else; what it knew under the same evidence stays (I7).
//!
//! Trusted: the transport's word on evidence and presence. Not trusted: the promptness of attestors. Begin at [`Attestors::attest`].

mod attestors;
mod caller;
mod connection;
mod known;
mod watch;
mod witness;

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;

pub use attestors::{Attestors, Turned};
pub use caller::AttestedCaller;
pub use connection::{Followed, Peer, PeerConn, peers};
pub use watch::Watch;
pub use witness::Witness;
