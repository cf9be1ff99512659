//! Doors that strangers know by the Web PKI: the bundle endpoint under `https_web`, and OIDC discovery.
//!
//! TCP → a place at the door ([`Admission`](crate::admission::Admission)) → TLS with the newest certificate ([`WebTls`]) → whatever the door serves
//!
//! A certificate comes from files that somebody else renews, or from an ACME directory. Not trusted: who connects, the directory's answers,
//! the files' wholeness while they are being replaced. What is shown stays while something newer can't be used (I11). Begin at [`WebSource`].

mod acme;
mod certificate;
mod door;
mod file_mark;
mod files;
mod roots;
mod source;
mod tls;

pub use acme::{AcmeConfig, AcmeError};
pub use door::Door;
pub use files::CertificateFilesError;
pub use roots::{WebRoots, WebRootsError};
pub use source::{WebError, WebSource, WebState};

pub(crate) use source::{WebTls, is_proof};
pub(crate) use tls::{HTTP, finished, web_provider};

/// Connections of one door in all.
pub(crate) const CONNECTIONS: usize = 1_024;
/// Connections of one address. Peers behind a translated network share one; each needs one for some milliseconds, or one that waits.
pub(crate) const CONNECTIONS_PER_ADDRESS: usize = 64;
