//! The node agent: hands each process on this host the identity it is entitled to, and nothing else.
//!
//! ```text
//! process ─connect→ transport ─pidfd, presence→ peer ─facts→ cache ─svids→ process        server ←csrs─ sync ─svids→ cache
//! ```
//!
//! Trusted: the kernel's word on a peer, the attested server. Not trusted: callers, the promptness of plugins, the wall clock.

pub mod api;
pub mod cache;
pub mod keep;
pub mod peer;
pub mod rotate;
pub mod sync;
