//! The streams to our own nodes: each is told what changed for it, when it changes.
//!
//! ```text
//! registry ─mail→     ┐
//! bundles ─revision→  ├ [Conversation] ─delta(what it was told last, now)→ Update, Bundles → node
//! clock ─heartbeat→   ┘        └ its certificate ends, it is banned, the server stops: the stream ends
//! ```
//!
//! A stream holds the view that its node was told last, never a queue: a slow node is told the newest state when it reads
//! again. It ends with the certificate it came with, and at once when the node is banned, evicted or renewed elsewhere.

mod connections;
mod conversation;
mod messages;
mod standing;

pub use connections::Connections;
pub use conversation::Conversation;
pub(crate) use standing::{end_of, standing};
