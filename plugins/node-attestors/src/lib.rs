//! How a node proves itself to the server: both halves of each kind.
//!
//! | kind | proof | again after expiry | server's half |
//! |---|---|---|---|
//! | [`join_token`] | a secret that an operator made on the server and that counts once | no | the registry's transaction |
//! | [`rejoin`] | the key of the node's last certificate | yes, within the server's grace | the registry's transaction |
//! | [`x509pop`] | the key of a certificate that another PKI gave the machine | yes | [`x509pop::X509popVerifier`] |
//! | [`k8s_psat`] | a token that Kubernetes projected into the agent's pod | yes | [`k8s_psat::K8sPsatVerifier`] |
//!
//! The halves of one kind stand in one folder, since they share their messages; the features `agent` and `server` choose. Trusted: whoever
//! brought token or key here; on the server the configured authorities and the cluster's API server. Not trusted: every byte of a node, and
//! a challenge's content: no key signs what somebody else chose alone. Begin at [`JoinTokenAttestor`].

#[cfg(any(feature = "agent", feature = "server"))]
mod file;
pub mod join_token;
#[cfg(any(feature = "agent", feature = "server"))]
pub mod k8s_psat;
#[cfg(feature = "server")]
pub mod path_template;
pub mod rejoin;
#[cfg(any(feature = "agent", feature = "server"))]
pub mod x509pop;

pub use join_token::{JoinToken, JoinTokenAttestor, ParseJoinTokenError};
#[cfg(feature = "server")]
pub use path_template::{PathTemplate, TemplateError};
pub use rejoin::RejoinAttestor;
