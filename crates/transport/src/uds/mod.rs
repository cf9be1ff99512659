//! The Unix door that identities leave by: every connection pinned to a process, every segment to its sender.

mod admission;
mod conn;
mod door;

pub use admission::UdsLimits;
pub use conn::UdsConn;
pub use door::UdsDoor;
