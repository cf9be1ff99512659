//! The server: registers workloads, attests nodes, signs identities.
//!
//! ```text
//! admin socket ─┐                            ┌→ registry ─commit→ store (journal, sled)          nodes ←Sync─ sync ←positions─ registry
//!               ├→ doors → authorize → api ──┼→ ca ─signing pool→ key manager                      └─Issue→ ca
//! TCP, mTLS ────┘          (one table)       └→ audit (durable before the answer)
//! ```
//!
//! Trusted: the kernel's word on who opened the admin socket, the store's own checks, the key manager. Not trusted: nodes with names (the server builds every
//! SPIFFE ID, a CSR gives its key and nothing else), callers with sizes and rates, the wall clock to run evenly.
//!
//! The library sets no process-wide state: `main` does. Begin at [`build`], which binds every socket, and [`Bound::run`], which serves.

pub mod api;
pub mod arguments;
pub mod bundles;
pub mod ca;
pub mod config;
pub mod federation;
pub mod node_attestors;
pub mod nodes;
pub mod oidc;
pub mod registry;
pub mod store;
pub mod sync;
pub mod web;

mod admission;
mod build;
mod doors;
mod publish;
mod reload;
mod side_by_side;
mod state;
mod watch;

pub use build::{Bound, BuildError, Surroundings, build};
pub use config::Config;
