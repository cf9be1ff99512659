use std::{fmt, str::FromStr};

/// Which ordered log a revision belongs to: 16 random bytes made at init and again at each restore, so that a
/// restored log never passes for the one it was copied from.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct StoreId([u8; 16]);

impl StoreId {
    /// Takes 16 bytes; the caller made them at random.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl TryFrom<&[u8]> for StoreId {
    type Error = ParseStoreIdError;

    fn try_from(bytes: &[u8]) -> Result<Self, ParseStoreIdError> {
        bytes.try_into().map(Self).map_err(|_| ParseStoreIdError)
    }
}

impl FromStr for StoreId {
    type Err = ParseStoreIdError;

    /// Reads what [`fmt::Display`] prints: 32 lower-case hexadecimal digits.
    fn from_str(text: &str) -> Result<Self, ParseStoreIdError> {
        let well_formed = text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !well_formed {
            return Err(ParseStoreIdError);
        }
        u128::from_str_radix(text, 16)
            .map(|n| Self(n.to_be_bytes()))
            .map_err(|_| ParseStoreIdError)
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreId({self})")
    }
}

/// What is not 16 bytes is no store id.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("store id is not 16 bytes")]
pub struct ParseStoreIdError;

/// How many commits a log holds: the first makes revision 1, an empty log is at 0.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Revision(pub u64);

impl Revision {
    /// The revision behind this one.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where in the server's ordered log a view stands.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Position {
    /// Which log.
    pub store: StoreId,
    /// Where in it.
    pub revision: Revision,
}

impl Position {
    /// Whether a view at this position may take the place of one at `held` (I3): in the same log never an older one;
    /// another log always, after a full resync.
    pub fn may_follow(&self, held: &Position) -> bool {
        self.store != held.store || self.revision >= held.revision
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.revision, self.store)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_never_goes_back_within_one_log() {
        let at = |store: u8, revision: u64| Position {
            store: StoreId::from_bytes([store; 16]),
            revision: Revision(revision),
        };
        assert!(at(1, 5).may_follow(&at(1, 5)) && at(1, 6).may_follow(&at(1, 5)));
        assert!(!at(1, 4).may_follow(&at(1, 5)));
        assert!(at(2, 1).may_follow(&at(1, 5)));
        assert_eq!(at(7, 1).store.to_string().parse::<StoreId>(), Ok(at(7, 1).store));
        assert!("+7".repeat(16).parse::<StoreId>().is_err());
    }
}
