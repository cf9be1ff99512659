//! The TLS door: machines and their certificates.

mod admission;
mod conn;
mod door;
mod limits;
mod peer;
mod trust;

pub use conn::TlsConn;
pub use door::{ServerConfigSource, TlsDoor};
pub use limits::TlsLimits;
pub use peer::TlsPeer;
pub use trust::{Lost, Trust};
