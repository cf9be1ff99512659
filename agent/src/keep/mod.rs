//! What survives a restart, sealed.
//!
//! | what | where | damaged |
//! |---|---|---|
//! | the node's key, certificate, server and trust bundle | [`NodeStore`], a journal: each change is on disk before it is used | the agent does not start and says so |
//! | entries, SVIDs of workloads, foreign bundles | [`SvidStore`], one file, written behind | dropped: the server gives it again |
//!
//! Trusted: the seal. Not trusted: the files' contents before they are unsealed. Begin at [`Folder`].

mod folder;
mod node;
mod svids;
mod writer;

pub use folder::{Folder, OpenFolderError};
pub use node::{NodeIdentity, NodeState, NodeStore, NodeStoreError, server_id};
pub use svids::SvidStore;
pub use writer::write_behind;
