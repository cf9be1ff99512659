//! The doors against real processes, real sockets and a real gRPC server.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "helpers of tests stop at the first surprise"
)]

mod attacks;
mod clients;
mod service;
mod tls;
