//! What this node holds for its callers: entries, SVIDs, bundles, tokens.
//!
//! ```text
//! sync ─Update, Bundles, signed→ Cache ─views→ Workload API        Cache ─SignOrder→ sync        Cache ─Kept→ keep
//! ```
//!
//! [`Cache`] is a state machine without IO: it is told what happened and what time it is, and says what is to be signed. [`Handle`] is how the rest of the
//! daemon speaks to the one cache. A view is whole and unchanging; callers with the same facts share it and see the latest one, never a queue.
//!
//! Trusted: the server's word on entitlement. Not trusted: the order in which things happen. Begin at [`Handle::subscribe`].

mod attention;
mod bundles;
mod chains;
mod entries;
mod groups;
mod handle;
mod install;
mod kept;
mod machine;
mod signing;
mod token_targets;
mod tokens;
mod unknown_keys;
mod view;
mod views;

pub use chains::OutdatedTotals;
pub(crate) use chains::gains_an_authority;
pub use handle::{Handle, HeldJwt, JwtFetchError, JwtOrder};
pub use install::{BundleNews, StaleUpdate, Update};
pub use kept::Kept;
pub use machine::{Cache, Contact, PREFETCH};
pub use signing::{SignFailure, SignOrder};
pub use view::{Encoding, HeldIdentity, HeldX509, WorkloadView};
