//! How much one commit may hold, whatever store it goes to.

use super::{Change, Key, StoreError};

/// The most bytes that one commit may hold; the journal's records are 16 MiB at most.
const MAX_COMMIT: usize = 12 << 20;
/// What a change costs besides its name and value.
const OVERHEAD: usize = 64;

/// The bytes that a group takes in a commit.
///
/// # Errors
/// [`StoreError::TooLarge`] for one that no store takes, even alone.
pub(crate) fn checked_size(group: &[Change]) -> Result<usize, StoreError> {
    let mut total = 0;
    for change in group {
        let value = change.value.as_ref().map_or(0, Vec::len);
        if value > Change::MAX_VALUE || change.key.name.is_empty() || change.key.name.len() > Key::MAX_LEN {
            return Err(StoreError::TooLarge(value.max(change.key.name.len())));
        }
        total += value + change.key.name.len() + OVERHEAD;
    }
    if total > MAX_COMMIT {
        Err(StoreError::TooLarge(total))
    } else {
        Ok(total)
    }
}

/// Refuses a commit that no store takes. Who joins groups of several callers looks at each with [`checked_size`] before.
pub(super) fn check(groups: &[Vec<Change>]) -> Result<(), StoreError> {
    let mut total = 0;
    for group in groups {
        total += checked_size(group)?;
    }
    if total > MAX_COMMIT {
        Err(StoreError::TooLarge(total))
    } else {
        Ok(())
    }
}
