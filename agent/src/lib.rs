//! The node agent: hands each process on this host the identity it is entitled to, and nothing else.
//!
//! ```text
//! process ─connect→ transport ─pidfd, presence→ peer ─facts→ cache ─svids→ process        server ←csrs─ sync ─svids→ cache
//! ```
//!
//! | module | what it knows |
//! |---|---|
//! | [`peer`] | who calls: evidence, facts, presence |
//! | [`api`] | what is offered, and how it is refused |
//! | [`cache`] | who is entitled to what, and what is held for him; without IO |
//! | [`rotate`] | when what is renewed; without IO |
//! | [`sync`] | the connection to the server |
//! | [`attest`] | who this node is to the server |
//! | [`keep`] | what survives a restart |
//! | [`arguments`], [`config`] | what it is told |
//!
//! Trusted: the kernel's word on a peer, the attested server. Not trusted: callers, the promptness of plugins, the wall clock.
//! Begin at [`build`] and [`Bound::run`].

pub mod api;
pub mod arguments;
mod assembly;
pub mod attest;
pub mod cache;
pub mod config;
mod info;
pub mod keep;
mod node_facts;
pub mod peer;
pub mod rotate;
pub mod sync;

pub use assembly::{Bound, BuildError, Surroundings, build, is_joined};
pub use config::Config;
