//! The other way: a SPIRE server, which knows nothing of our streams and is polled for what this node may hand out.
//!
//! ```text
//! Schedule ─when→ poll: SyncAuthorizedEntries ⇄ Listing, GetBundle, GetFederatedBundle ─Polled→ cache        cache ─orders→ BatchNewX509SVID, NewJWTSVID ─SVIDs→ cache
//! ```
//!
//! Behind it are the cache and the renewals that our own streams drive. What SPIRE does not have is made here: a store id ([`store_of`]), positions that count the
//! polls that changed something, and versions of entries ([`revision`]). What is decided stands in machines without IO ([`schedule`], [`listing`], [`lineage`],
//! [`batch`]); [`connection`] acts.
//!
//! Trusted and not trusted: as in the module above. SPIRE's quirks that are met here: at most 500 requests in a batch, messages of at most 4 MiB, a connection that
//! the server ends after three minutes, no pings on an idle one, results without a status.

mod batch;
mod bundles;
mod call;
mod connection;
mod entries;
mod lineage;
mod listing;
mod poll;
mod revision;
mod schedule;
mod signing;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod link_tests;
#[cfg(test)]
mod tests;

pub(super) use call::CallError;
pub(super) use poll::Memory;
pub(super) use revision::store_of;
