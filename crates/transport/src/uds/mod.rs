//! The Unix door that identities leave by: every connection pinned to a process, every segment to its sender.

mod admission;
mod conn;
mod door;

pub use admission::UdsLimits;
pub(crate) use admission::{Account, Admission, Full, Permit};
pub use conn::UdsConn;
pub use door::UdsDoor;
