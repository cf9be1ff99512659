//! Attested nodes: how they come in, whether their certificate still counts, how they go.
//!
//! Here are the rules as changes to the registry; `api::agent` speaks to the node and to administrators.

mod attested;
mod change;
mod join;
mod prune;
mod standing;
#[cfg(test)]
mod tests;

pub use attested::attested;
pub use change::{ban, evict, renew, state_version};
pub use join::{Join, JoinError, join, new_token, node_id, rejoin, token_text};
pub use prune::{Pruning, prune};
pub use standing::{AuthorizeError, Counts, NodeCertificate, NodeRefusal, NodeView, Nodes};
