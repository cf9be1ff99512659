//! What survives a restart, sealed.
//!
//! | what | where | damaged |
//! |---|---|---|
//! | the node's key, certificate, server and trust bundle | [`NodeStore`], a journal: each change is on disk before it is used | the agent does not start and says so |
//! | entries, SVIDs of workloads, foreign bundles | [`SvidStore`], one file, written behind | dropped: the server gives it again |
//!
//! Trusted: the seal. Not trusted: the files' contents before they are unsealed. Begin at [`NodeState`].

mod node;
mod svids;

pub use node::{NodeIdentity, NodeState, NodeStore, NodeStoreError};
pub use svids::SvidStore;
