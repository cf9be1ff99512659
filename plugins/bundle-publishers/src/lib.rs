//! Where a trust bundle is laid for those who do not ask the server: peers behind a file server, verifiers that know JWTs alone, other people's clouds.
//!
//! | plugin | where | secrets it reads |
//! |---|---|---|
//! | [`FilePublisher`] | a file on this machine | none |
//! | [`HttpPublisher`] | an HTTPS server that takes a PUT | a file with the value of the Authorization header, or a client certificate |
//! | [`S3Publisher`] | a bucket of an object store that speaks S3 | a file with the access key |
//!
//! A bundle is public, but whoever may replace it decides whom readers trust: where it is laid must be closed to everybody else. Files with secrets and authorities
//! are read again at each publication, so that they may be replaced at any time. Not trusted: the promptness of servers and the size of what they say.
//! Begin at [`muster_plugin_api::BundlePublisher`].

mod file;
mod http_put;
mod https;
mod place;
mod s3;

pub use file::FilePublisher;
pub use http_put::{HttpIdentity, HttpPublisher};
pub use place::Place;
pub use s3::{S3Publisher, S3Target};
