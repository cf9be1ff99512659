//! What administrators of this node may ask: counters, and the log level.

mod debug;
mod logger;

pub use debug::{ChainLink, Debug, NodeInfo, NodeState};
pub use logger::Logger;

#[cfg(test)]
mod tests;
