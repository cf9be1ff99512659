//! Token-signing keys of other servers in our bundle: those below us published them, or they came from above.

use std::collections::BTreeSet;

use muster_identity::UnixTime;
use muster_pki::bundle::{Bundle, KeyIdTaken};
use muster_pki::jwt::JwtAuthority;

use super::authorities::records;
use super::record::{Kind, RecordError};
use crate::registry::View;

/// The most keys of others: each stands in every bundle that is sent to a node. Two for each of a hundred servers.
const MOST: usize = 256;

/// What tells others' keys from our own.
pub(crate) struct ForeignKeys {
    own: BTreeSet<String>,
    now: UnixTime,
}

/// Why a key is not put into the bundle.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ForeignKeyError {
    /// Its name is another key's.
    #[error(transparent)]
    Taken(#[from] KeyIdTaken),
    /// There are enough.
    #[error("the bundle holds {MOST} keys of other servers already")]
    TooMany,
}

impl ForeignKeyError {
    /// Whether there are enough.
    pub(crate) fn is_too_many(&self) -> bool {
        matches!(self, Self::TooMany)
    }
}

impl ForeignKeys {
    /// By the authorities that `view` has as ours.
    pub(crate) fn new(view: &View, now: UnixTime) -> Result<Self, RecordError> {
        let own = records(view, Kind::Jwt)?.into_iter().map(|record| record.life.id);
        Ok(Self {
            own: own.collect(),
            now,
        })
    }

    /// With these names as ours.
    #[cfg(test)]
    pub(crate) fn of<const N: usize>(own: [&str; N], now: UnixTime) -> Self {
        let own = own.into_iter().map(str::to_owned).collect();
        Self { own, now }
    }

    /// Whether it is our own.
    pub(crate) fn is_own(&self, key: &JwtAuthority) -> bool {
        self.own.contains(key.key_id().as_str())
    }

    /// Puts a key into the bundle. One that is there stays as it is: its taint is never taken away. One that has ended is left out.
    pub(crate) fn put(&self, bundle: &mut Bundle, key: &JwtAuthority) -> Result<(), ForeignKeyError> {
        if key.expires_at().is_some_and(|end| end <= self.now) {
            return Ok(());
        }
        let held = bundle
            .jwt_authorities()
            .iter()
            .find(|held| held.key_id() == key.key_id());
        match held {
            Some(held) if held.public_key() == key.public_key() => return Ok(()),
            Some(held) => return Err(KeyIdTaken(held.key_id().clone()).into()),
            None => {}
        }
        let foreign = bundle.jwt_authorities().iter().filter(|held| !self.is_own(held));
        if foreign.count() >= MOST {
            return Err(ForeignKeyError::TooMany);
        }
        bundle.put_jwt_authority(key.clone())?;
        Ok(())
    }
}
