//! What to renew, and when: a state machine without IO.
//!
//! Time and outcomes go in, the keys that are due come out. Nothing here takes a credential away: a failed renewal only decides when the next try is (I11),
//! and what is still valid stays with whoever holds it.

mod jitter;
mod renewals;

pub use jitter::Jitter;
pub use renewals::{Outcome, Renewals, Validity, Worth};
