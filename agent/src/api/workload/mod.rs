//! The SPIFFE Workload API: a process asks, and gets what it has earned by what it is.
//!
//! ```text
//! header → rate → attested caller → its view → light check → recorded → sent       (again, from the view on, at each change)
//! ```
//!
//! A stream carries the latest state, never a queue: the view is looked at when the caller can take a message, and nothing is sent when
//! nothing changed for this kind of message. Trusted: the attested caller's facts. Not trusted: anything in a request.
//! Begin at [`WorkloadApi`].

mod bundles;
mod call;
mod hand_outs;
mod identities;
mod jwt;
mod service;
mod stream;
mod validate;
mod wire;
mod x509;

#[cfg(test)]
mod tests;

pub use call::{Parts, WorkloadSettings};
pub use identities::Identities;
pub use service::{SERVICE, WorkloadApi};
