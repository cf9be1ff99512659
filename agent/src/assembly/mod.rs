//! Putting the agent together, and running it.

mod audit;
mod bound;
mod build;
mod error;
mod membership;
mod reload;
mod user_namespaces;

use std::sync::Arc;

use muster_runtime::logging::LogLevel;
use muster_runtime::{Clock, SystemClock};
use muster_transport::PassedSockets;

pub use bound::Bound;
pub use build::build;
pub use error::BuildError;
pub use membership::is_joined;

/// What an agent does not make itself, because the process has only one of it.
#[derive(Debug)]
pub struct Surroundings {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The log level.
    pub log_level: LogLevel,
    /// Sockets that were open before the process began; the Workload API's may be among them.
    pub sockets: PassedSockets,
}

impl Surroundings {
    /// The machine's clock, and sockets of the agent's own.
    pub fn new(log_level: LogLevel) -> Self {
        Self {
            clock: Arc::new(SystemClock),
            log_level,
            sockets: PassedSockets::default(),
        }
    }
}
