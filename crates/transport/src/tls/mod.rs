//! The TLS door: machines and their certificates.

mod admission;
mod conn;
mod door;
mod limits;
mod peer;

pub use conn::TlsConn;
pub use door::{ServerConfigSource, TlsDoor};
pub use limits::TlsLimits;
pub use peer::TlsPeer;
