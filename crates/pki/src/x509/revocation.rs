//! Certificates that their issuer took back: what revocation lists say of a path (RFC 5280 6.3).
//!
//! ```text
//! bytes ──RevocationList::parse──▶ a complete list of one issuer, everything critical in it understood
//! path, lists, now ──check──▶ for each certificate below the authority: a list that counts covers it, none names it
//! ```
//!
//! Nothing is fetched: the lists are those that the caller has. Whoever hands in lists wants to know, so a certificate
//! that none of them covers is refused, not passed. Lists that say less than they seem to (deltas, indirect ones, those
//! of some reasons alone) are refused as they are read. A list counts when the key that signed the certificate signed it
//! too; keys that sign lists alone are not looked for.

mod entry;
mod list;
mod scope;

use muster_identity::UnixTime;

use super::certificate::Certificate;
use super::path::Path;
use super::serial::Serial;

pub use entry::{Reason, Revoked};
pub use list::{MAX_REVOCATION_LIST, MAX_REVOKED, RevocationList, RevocationListError};

/// Most lists that one question may come with: each may cost a signature check for each certificate of the path.
pub const MAX_REVOCATION_LISTS: usize = 32;

/// Whether the lists let every certificate below the path's authority pass; gives those that were believed.
pub(super) fn check<'a>(
    path: &Path<'_>,
    lists: &'a [RevocationList],
    now: UnixTime,
) -> Result<Vec<&'a RevocationList>, RevocationError> {
    if lists.len() > MAX_REVOCATION_LISTS {
        return Err(RevocationError::TooMany(lists.len()));
    }
    let issuers = path.certificates.iter().skip(1).copied();
    let issuers = issuers.chain([path.authority.certificate()]);
    let mut believed: Vec<&RevocationList> = Vec::new();
    for (certificate, issuer) in path.certificates.iter().zip(issuers) {
        for list in covering(certificate, issuer, lists, now)? {
            if !believed.iter().any(|known| std::ptr::eq(*known, list)) {
                believed.push(list);
            }
        }
    }
    Ok(believed)
}

/// The lists that cover a certificate and do not name it: at least one. What one of them names is revoked, whatever
/// another says; a list that does not count says nothing, neither way.
fn covering<'a>(
    certificate: &Certificate,
    issuer: &Certificate,
    lists: &'a [RevocationList],
    now: UnixTime,
) -> Result<Vec<&'a RevocationList>, RevocationError> {
    let serial = || certificate.serial().clone();
    let mut found = Vec::new();
    let mut nearest = RevocationError::Uncovered { serial: serial() };
    // RFC 5280 6.3.3 (b)(1): the list's issuer is the certificate's.
    let by_issuer = |(_, list): &(usize, &RevocationList)| list.issuer() == certificate.issuer();
    for (at, list) in lists.iter().enumerate().filter(by_issuer) {
        let number = at + 1;
        if !list.scope().covers(certificate) {
            nearest = nearest.or(RevocationError::Scope {
                serial: serial(),
                list: number,
            });
            continue;
        }
        if let Err(error) = counts(number, list, issuer, now) {
            nearest = nearest.or(error);
            continue;
        }
        if let Some(revoked) = list.find(certificate.serial()) {
            return Err(RevocationError::Revoked(revoked.clone()));
        }
        found.push(list);
    }
    if found.is_empty() { Err(nearest) } else { Ok(found) }
}

/// Whether a list is to be believed now: its times, its issuer's key usage, its signature. Cheap rules come first.
fn counts(
    number: usize,
    list: &RevocationList,
    issuer: &Certificate,
    now: UnixTime,
) -> Result<(), RevocationError> {
    if now < list.this_update() {
        return Err(RevocationError::NotYet {
            list: number,
            from: list.this_update(),
        });
    }
    // At that very second there is a newer one (RFC 5280 5.1.2.5).
    if now >= list.next_update() {
        return Err(RevocationError::Stale {
            list: number,
            until: list.next_update(),
        });
    }
    // RFC 5280 6.3.3 (f): where there is no key usage there is nothing to verify.
    if issuer.extensions.key_usage.is_some_and(|usage| !usage.crl_sign) {
        return Err(RevocationError::KeyUsage { list: number });
    }
    list.verify_signed_by(issuer.public_key())
        .map_err(|_| RevocationError::Signature { list: number })
}

/// Why the lists do not let a path pass. Lists are counted from 1, in the order in which they were given.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RevocationError {
    /// A list names it.
    #[error("the certificate with serial number {} was revoked at {}: {}", .0.serial, .0.at, .0.reason)]
    Revoked(Revoked),
    /// No list comes from its issuer.
    #[error(
        "no revocation list comes from the issuer of the certificate with serial number {serial}: whether it was revoked is not known"
    )]
    Uncovered {
        /// The certificate's.
        serial: Serial,
    },
    /// A list of its issuer is about other certificates.
    #[error(
        "revocation list {list} is about other certificates of its issuer than that with serial number {serial}"
    )]
    Scope {
        /// The certificate's.
        serial: Serial,
        /// Which list.
        list: usize,
    },
    /// Another key made the list.
    #[error("revocation list {list} is not signed with its issuer's key")]
    Signature {
        /// Which list.
        list: usize,
    },
    /// The issuer may not make lists.
    #[error("revocation list {list} comes from an issuer whose key usage lacks cRLSign")]
    KeyUsage {
        /// Which list.
        list: usize,
    },
    /// Begins later.
    #[error("revocation list {list} does not count before {from}")]
    NotYet {
        /// Which list.
        list: usize,
        /// Its thisUpdate.
        from: UnixTime,
    },
    /// There is a newer one.
    #[error("revocation list {list} is out of date: a newer one was due at {until}")]
    Stale {
        /// Which list.
        list: usize,
        /// Its nextUpdate.
        until: UnixTime,
    },
    /// Over the bound.
    #[error("{0} revocation lists are more than are looked through: at most {MAX_REVOCATION_LISTS}")]
    TooMany(usize),
}

impl RevocationError {
    /// The section of the standard that says so.
    #[must_use]
    pub fn section(&self) -> &'static str {
        match self {
            Self::Revoked(_) | Self::Uncovered { .. } => "RFC 5280 6.3.3",
            Self::Scope { .. } => "RFC 5280 6.3.3 (b)",
            Self::Signature { .. } => "RFC 5280 6.3.3 (g)",
            Self::KeyUsage { .. } => "RFC 5280 6.3.3 (f)",
            Self::NotYet { .. } => "RFC 5280 5.1.2.4",
            Self::Stale { .. } => "RFC 5280 5.1.2.5",
            Self::TooMany(_) => "project limit",
        }
    }

    /// The list that is at fault, counted from 1; none where it is the certificate.
    #[must_use]
    pub fn list(&self) -> Option<usize> {
        match self {
            Self::Scope { list, .. }
            | Self::Signature { list }
            | Self::KeyUsage { list }
            | Self::NotYet { list, .. }
            | Self::Stale { list, .. } => Some(*list),
            Self::Revoked(_) | Self::Uncovered { .. } | Self::TooMany(_) => None,
        }
    }

    /// Of two lists that do not help, what is wrong with the one that comes nearer: it tells the reader most.
    fn or(self, other: Self) -> Self {
        let near = |error: &Self| match error {
            Self::Uncovered { .. } => 0,
            Self::Scope { .. } => 1,
            Self::Signature { .. } => 2,
            _ => 3,
        };
        if near(&other) > near(&self) { other } else { self }
    }
}

#[cfg(test)]
mod tests;
