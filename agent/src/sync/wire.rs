//! What `muster.node.v1` needs beyond the conversion of its messages.

use muster_identity::digest::{SetDigest, item_bytes};

use crate::cache::Cache;

/// What the server said makes no sense. The connection is given up: a server that errs here may err elsewhere.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the server sent {what} ({value:?})")]
pub(super) struct WireError {
    what: &'static str,
    value: String,
}

impl WireError {
    pub(super) fn new(what: &'static str, value: &impl ToString) -> Self {
        // Whatever it is, it is not repeated at length.
        Self {
            what,
            value: value.to_string().chars().take(256).collect(),
        }
    }
}

/// The digest of all entries that are held, as both sides compute it.
pub(super) fn digest_of(cache: &Cache) -> [u8; 32] {
    let mut sum = SetDigest::EMPTY;
    for (id, version) in cache.versions() {
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &item_bytes(id, version));
        // SHA-256 has 32 bytes.
        if let Ok(hash) = hash.as_ref().try_into() {
            sum.add(hash);
        }
    }
    sum.to_bytes()
}
