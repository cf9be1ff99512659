//! Attestation by a certificate that the machine was given by another PKI, and the proof that its key is here.
//!
//! ```text
//! agent ─certificates→ server: path to a configured authority ─nonce→ agent: key signs SHA-256(nonce ‖ own nonce) ─→ server: verified
//! ```
//!
//! Messages, selectors and names are SPIRE's. The agent's key signs one message of one attestation, half of which are fresh random
//! bytes of its own, so that nobody who poses challenges gets a signature that means anything elsewhere (T-31). The server verifies against the
//! key of the very certificate that it found a path for.

#[cfg(feature = "agent")]
mod agent;
#[cfg(feature = "server")]
mod node;
#[cfg(feature = "server")]
mod server;
mod wire;

#[cfg(feature = "agent")]
pub use agent::{X509popAttestor, X509popFiles};
#[cfg(feature = "server")]
pub use server::{Mode, StartX509popError, X509popSettings, X509popVerifier};
pub use wire::{Challenge, Payload, Response, WireError};

/// The attestation type on the wire.
pub const KIND: &str = "x509pop";

#[cfg(test)]
#[cfg(all(feature = "agent", feature = "server"))]
mod tests;
