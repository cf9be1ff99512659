//! JSON Web Signature (RFC 7515) in its compact form, as far as SPIFFE allows it.
//!
//! [`Compact`] reads a token strictly; [`sign_compact`] makes one through a [`crate::Signer`]. The algorithms are the
//! nine of JWT-SVID 2.1: everything else, above all `none` and the symmetric ones, has no value of [`Algorithm`].

mod algorithm;
mod compact;
mod sign;

pub use algorithm::Algorithm;
pub use compact::{Compact, CompactError};
pub use sign::{JwsSignError, sign_compact};

#[cfg(test)]
mod tests;
