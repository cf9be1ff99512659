//! As much of HTTP/2 as a door must understand: where frames begin and end, and what a peer may not do with them.

mod authority;
mod budget;
mod frame;
mod inbound;
mod outbound;

use std::time::Duration;

pub(crate) use inbound::Authority;
pub use inbound::{FrameError, Inbound};
pub(crate) use outbound::{Outbound, PING_LENGTH, ping_frame};

/// Requests and streams that one connection may have open at a time.
const STREAMS: u32 = 128;

/// The decoded size of a request's headers; SPIFFE's clients send some hundred bytes.
const HEADER_LIST: u32 = 8 * 1024;

/// The settings of a gRPC server that belong to our doors.
pub fn h2_limits(server: tonic::transport::Server) -> tonic::transport::Server {
    server
        .max_concurrent_streams(STREAMS)
        .http2_max_header_list_size(HEADER_LIST)
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
}
