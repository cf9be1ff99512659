//! The TLS door: machines and their certificates.

mod conn;
mod door;

pub use conn::{TlsConn, TlsPeer};
pub use door::{ServerConfigSource, TlsDoor, TlsLimits};
