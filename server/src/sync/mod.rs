//! The streams to our own nodes: each is told what changed for it, when it changes.
//!
//! ```text
//! registry ─mail→     ┐
//! bundles ─revision→  ├ [Conversation] ─delta(what it was told last, now)→ Update, Bundles → node
//! clock ─heartbeat→   ┘        └ its certificate ends, it is banned, the server stops: the stream ends
//! ```
//!
//! A stream holds the view that its node was told last, never a queue: a slow node is told the newest state when it reads
//! again. It ends with the certificate it came with, when the node does not read or say what it must, when it opens another,
//! and at once when the node is banned, evicted or renewed elsewhere. Such an end overtakes what was on its way.

mod asking;
mod comparison;
mod connections;
mod conversation;
mod federated;
mod messages;
mod outlet;
mod turns;

pub use connections::Connections;
pub(crate) use conversation::Conversation;
pub use outlet::Outlet;
pub(crate) use outlet::outlet;
pub(crate) use turns::StreamKind;
