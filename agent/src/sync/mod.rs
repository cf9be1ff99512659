//! The connection to the server: what this node may hand out comes in, certificate requests go out.
//!
//! ```text
//! server ─Sync: Welcome, Update, Bundles→ Session ─installs→ cache        cache ─orders→ Issuing ─Issue: CSRs→ server ─SVIDs→ cache
//! ```
//!
//! A Muster server pushes. A SPIRE server is polled, behind the same cache and the same renewals (`spire/`); which of the two answers is asked at each connection.
//!
//! One TLS connection carries two streams, so that a burst of signing can't delay a removal. It ends with the certificate that it was opened with: a renewed
//! node certificate means a new connection, and what the node holds says where the server goes on. Between the connections everything held is served.
//!
//! Trusted: the server, once it has shown the server's SVID by the bundle that is held. Not trusted: its promptness and the sense of its messages.
//! Begin at [`Link::run`].

mod authorities;
mod channel;
mod connection;
mod issuing;
mod kind;
mod link;
mod link_error;
mod metrics;
mod proving;
mod session;
mod spire;
mod timepiece;
mod under_way;
mod wire;

pub use channel::{ConnectError, Dial, ServerCertificate};
pub use link::{Link, Parts, Standing};
pub use metrics::LinkMetrics;
