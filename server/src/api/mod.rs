//! The services, one file each, and what stands before them.
//!
//! door → [`authorize`] (who calls, and may he?) → handler (parse, decide, do, audit) → [`status`] (what he is told)
//!                                                  └ [`scope`]: what lies inside the caller's grants
//!
//! A handler never asks whether its caller may call it: the table in [`methods`] did, by default no. It asks on whose behalf it acts, which
//! [`Caller`] says. It answers when the audit log has the record (I9), and every error goes through [`Refusal`].

pub mod agent;
pub mod authorize;
pub mod bundle;
pub mod debug;
pub mod delivery;
pub mod entry;
pub mod federation;
pub mod grant;
pub mod health;
pub mod limits;
pub mod local_authority;
pub mod logger;
pub mod meter;
pub mod methods;
pub mod node;
pub mod rotation;
pub mod status;
pub mod svid;
pub mod trust_domain;

mod caller;
mod changes;
mod context;
mod downstream;
mod issue;
mod pages;
mod scope;
mod standing;
mod upstream_roots;

pub use caller::{Caller, Origin, Role};
pub use changes::Changes;
pub use context::Context;
pub use downstream::UnderWay;
pub use scope::OneAtATime;
pub(crate) use standing::{Dismissal, dismissal, until_dismissed};
pub use status::Refusal;
