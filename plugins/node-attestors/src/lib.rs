//! How a node proves itself to the server: the agent's half of each kind.
//!
//! | kind | proof | again after expiry |
//! |---|---|---|
//! | [`join_token`] | a secret that an operator made on the server and that counts once | no |
//! | [`rejoin`] | the key of the node's last certificate | yes, within the server's grace |
//!
//! The server's half of both is a transaction on its registry, not a plugin. Trusted: whoever brought the token here. Begin at [`JoinTokenAttestor`].

pub mod join_token;
pub mod rejoin;

pub use join_token::{JoinToken, JoinTokenAttestor, ParseJoinTokenError};
pub use rejoin::RejoinAttestor;
