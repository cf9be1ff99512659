//! Who this node is to the server: the first attestation, renewal, and the way back after an absence.
//!
//! ```text
//! pin (file, fingerprint) ─checks→ server ←proof, CSR─ join        Membership ─RenewAgent→ server        expired: rejoin with the last key
//!                                                                  with a proof that lasts: the whole attestation, each time
//! ```
//!
//! A key is on disk before the request that names it leaves, and the certificate is on disk before it is used: whatever is cut off in between can be done again.
//! Trusted: the pin that a person brought here. Not trusted: the network, and a server before it has shown its SVID. Begin at [`join`].

mod attestor;
mod exchange;
mod join;
mod membership;
mod pin;
mod token_file;

pub use attestor::NodeAttestorConfig;
pub(crate) use exchange::denial_of;
pub use exchange::{AttestError, Denial, attest, attest_again, fetch_bundle, rejoin, renew};
pub(crate) use join::become_node;
pub use join::{JoinError, JoinRequest, Joined, OldMembership, join};
pub use membership::Membership;
pub use pin::{ParsePinError, Pin, PinError};
pub use token_file::{TokenFileError, read_token};
