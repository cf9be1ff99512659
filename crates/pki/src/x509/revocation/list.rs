//! One revocation list, taken apart once.

use std::fmt;

use muster_identity::UnixTime;

use super::entry::Revoked;
use super::scope::Scope;
use crate::der::{self, NotDer, Reader};
use crate::key::{BadSignature, PublicKey};
use crate::signer::SignatureScheme;
use crate::x509::certificate::Certificate;
use crate::x509::extensions::{each, whole};
use crate::x509::name;
use crate::x509::serial::Serial;
use crate::x509::signed::Signed;
use crate::x509::validity::{GENERALIZED_TIME, UTC_TIME, time};

/// Longest list that is read, in bytes of DER. The lists of large public authorities have under 2 MiB.
pub const MAX_REVOCATION_LIST: usize = 4 << 20;
/// Most certificates that a list may name.
pub const MAX_REVOKED: usize = 100_000;

/// A complete X.509 revocation list of version 2 in its one DER form (RFC 5280 5.1), about certificates of its own
/// issuer. Parsing looks at no signature and no clock; it only makes sure that everything that the list says is
/// understood.
#[derive(Clone)]
pub struct RevocationList {
    der: Vec<u8>,
    /// Raw DER, header included, as certificates have it.
    issuer: Vec<u8>,
    this_update: UnixTime,
    next_update: UnixTime,
    number: Serial,
    scheme: SignatureScheme,
    scope: Scope,
    /// By serial number.
    revoked: Vec<Revoked>,
}

impl RevocationList {
    /// Reads one DER list; nothing may follow it.
    ///
    /// # Errors
    /// When it is not exactly that, or says something that is not evaluated here.
    pub fn parse(der: &[u8]) -> Result<Self, RevocationListError> {
        if der.len() > MAX_REVOCATION_LIST {
            return Err(RevocationListError::TooLong(der.len()));
        }
        let signed = Signed::parse(der)?;
        let mut fields = Reader::new(signed.content);
        if fields.read_optional(der::INTEGER)? != Some(&[1][..]) {
            return Err(RevocationListError::Version);
        }
        // 5.1.1.2: both places must name the same algorithm.
        if fields.read(der::SEQUENCE)? != signed.algorithm {
            return Err(RevocationListError::Algorithm);
        }
        let scheme = signed.scheme().ok_or(RevocationListError::Algorithm)?;
        let (issuer, _) = fields.read_with_header(der::SEQUENCE)?;
        name::check_form(issuer)?;
        // 5.1.2.3: somebody made it.
        if issuer == [der::SEQUENCE, 0] {
            return Err(RevocationListError::Malformed);
        }
        let this_update = time(&mut fields)?;
        if !matches!(fields.peek(), Some(UTC_TIME | GENERALIZED_TIME)) {
            return Err(RevocationListError::NextUpdate);
        }
        let next_update = time(&mut fields)?;
        let revoked = match fields.read_optional(der::SEQUENCE)? {
            None => Vec::new(),
            Some(entries) => read_entries(entries)?,
        };
        let extensions = fields.read_optional(0xa0)?.ok_or(RevocationListError::Number)?;
        fields.finish()?;
        let (number, scope) = read_extensions(whole(extensions, der::SEQUENCE)?)?;
        Ok(Self {
            der: der.to_vec(),
            issuer: issuer.to_vec(),
            this_update,
            next_update,
            number,
            scheme,
            scope,
            revoked,
        })
    }

    /// The bytes it was read from.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The raw DER name of who made it.
    #[must_use]
    pub fn issuer(&self) -> &[u8] {
        &self.issuer
    }

    /// Whether its issuer has the name of `certificate`'s issuer.
    #[must_use]
    pub fn is_by_issuer_of(&self, certificate: &Certificate) -> bool {
        self.issuer == certificate.issuer()
    }

    /// When it was made.
    #[must_use]
    pub fn this_update(&self) -> UnixTime {
        self.this_update
    }

    /// When there is a newer one, at the latest.
    #[must_use]
    pub fn next_update(&self) -> UnixTime {
        self.next_update
    }

    /// Its number: later lists of the same issuer have higher ones.
    #[must_use]
    pub fn number(&self) -> &Serial {
        &self.number
    }

    /// All that it names, by serial number.
    #[must_use]
    pub fn revoked(&self) -> &[Revoked] {
        &self.revoked
    }

    /// What it says of the certificate with this serial number.
    #[must_use]
    pub fn find(&self, serial: &Serial) -> Option<&Revoked> {
        let at = self.revoked.binary_search_by(|entry| entry.serial.cmp(serial));
        at.ok().map(|at| &self.revoked[at])
    }

    pub(super) fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Whether webpki reads lists of this kind: it wants to know a place wherever there is an issuing distribution point.
    pub(in crate::x509) fn is_read_by_others(&self) -> bool {
        !self.scope.lacks_place
    }

    /// Checks the signature with the key of `issuer`; says nothing on whether that one may sign lists.
    pub(super) fn verify_signed_by(&self, issuer: &PublicKey) -> Result<(), BadSignature> {
        let signed = Signed::parse(&self.der).map_err(|_| BadSignature)?;
        issuer.verify(self.scheme, signed.message, signed.signature)
    }
}

/// From the content of `revokedCertificates`.
fn read_entries(content: &[u8]) -> Result<Vec<Revoked>, RevocationListError> {
    // 5.1.2.6: absent where nothing is revoked.
    if content.is_empty() {
        return Err(RevocationListError::NoEntries);
    }
    let mut entries = Reader::new(content);
    let mut revoked = Vec::new();
    while !entries.is_empty() {
        if revoked.len() == MAX_REVOKED {
            return Err(RevocationListError::TooMany);
        }
        revoked.push(Revoked::parse(entries.read(der::SEQUENCE)?)?);
    }
    // A certificate that stands there twice is revoked; the first entry tells why.
    revoked.sort_by(|one, other| one.serial.cmp(&other.serial));
    revoked.dedup_by(|later, first| later.serial == first.serial);
    Ok(revoked)
}

/// From the content of `SEQUENCE OF Extension`: the list's number and scope.
fn read_extensions(content: &[u8]) -> Result<(Serial, Scope), RevocationListError> {
    let (mut number, mut scope) = (None, Scope::default());
    each(content, |oid, critical, value| match oid {
        // 5.2.5: always critical; evaluated also where it is not.
        [0x55, 0x1d, 28] => {
            scope = Scope::parse(value)?;
            Ok(())
        }
        [0x55, 0x1d, 27] => Err(RevocationListError::Delta),
        // 5.2.3: never critical, up to 20 bytes.
        [0x55, 0x1d, 20] if !critical => {
            let value = whole(value, der::INTEGER).ok();
            number = Some(
                value
                    .and_then(Serial::from_der_content)
                    .ok_or(RevocationListError::Number)?,
            );
            Ok(())
        }
        // 5.2: such a list says something about its entries that nobody here knows.
        _ if critical => Err(RevocationListError::Critical(oid_text(oid))),
        // Key ids (5.2.1): which key signed is told by the signature. The others say where to find more.
        _ => Ok(()),
    })?;
    Ok((number.ok_or(RevocationListError::Number)?, scope))
}

/// An object identifier in numbers. What has more bits than anybody's is cut.
fn oid_text(oid: &[u8]) -> String {
    let mut numbers = Vec::new();
    let mut number = 0u64;
    for byte in oid {
        number = number << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            if numbers.is_empty() {
                let first = (number / 40).min(2);
                numbers.push(first);
                number -= 40 * first;
            }
            numbers.push(number);
            number = 0;
        }
    }
    let numbers: Vec<_> = numbers.iter().take(32).map(u64::to_string).collect();
    numbers.join(".")
}

impl fmt::Debug for RevocationList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RevocationList")
            .field("number", &self.number)
            .field("next_update", &self.next_update.to_string())
            .field("revoked", &self.revoked.len())
            .finish_non_exhaustive()
    }
}

/// Why bytes are no revocation list for us.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RevocationListError {
    /// Over the bound.
    #[error(
        "a revocation list of {0} bytes is longer than any that is accepted: at most {MAX_REVOCATION_LIST}"
    )]
    TooLong(usize),
    /// Over the other bound.
    #[error("the revocation list names more than {MAX_REVOKED} certificates")]
    TooMany,
    /// Not one DER list and nothing else.
    #[error("not one DER revocation list")]
    Malformed,
    /// Version 1 has no extensions.
    #[error("not a revocation list of version 2")]
    Version,
    /// Unknown, or not the same in both places.
    #[error("the revocation list's signature algorithm is unknown, or differs inside and outside")]
    Algorithm,
    /// Nobody could say when it is out of date.
    #[error("the revocation list does not say when the next one comes")]
    NextUpdate,
    /// Without number, or with one that is critical, negative, padded or over 20 bytes.
    #[error("the revocation list has no number, or one that is negative, padded or over 20 bytes")]
    Number,
    /// A serial number that no certificate has.
    #[error("the revocation list names a serial number that is negative, padded or over 20 bytes")]
    Serial,
    /// There, and empty.
    #[error("the revocation list has an empty row of entries instead of none")]
    NoEntries,
    /// Only what changed since another list.
    #[error("the revocation list is a delta: it only says what changed since another; take the complete one")]
    Delta,
    /// Of several issuers.
    #[error("the revocation list is an indirect one, which speaks for other issuers than its own")]
    Indirect,
    /// Of some reasons alone.
    #[error("the revocation list is about some reasons alone; take one that is about all")]
    SomeReasons,
    /// Of no certificates.
    #[error("the revocation list is about attribute certificates")]
    AttributeCertificates,
    /// A place that is relative to the issuer's name.
    #[error("the revocation list names its place relative to its issuer, which is not evaluated here")]
    RelativeName,
    /// Something critical that is not evaluated here, or may not be critical.
    #[error(
        "the revocation list has the critical extension {0}, which may not be critical or is not evaluated here"
    )]
    Critical(String),
    /// The same in an entry.
    #[error(
        "the entry of serial number {0} has a critical extension, which may not be critical or is not evaluated here"
    )]
    CriticalInEntry(Serial),
    /// Taken off a list that is complete.
    #[error("the entry of serial number {0} says removeFromCRL, which only a delta may say")]
    Removed(Serial),
}

impl RevocationListError {
    /// The section of the standard that says so.
    #[must_use]
    pub fn section(&self) -> &'static str {
        match self {
            Self::TooLong(_) | Self::TooMany => "project limit",
            Self::Malformed => "RFC 5280 5.1",
            Self::Version => "RFC 5280 5.1.2.1",
            Self::Algorithm => "RFC 5280 5.1.1.2",
            Self::NextUpdate => "RFC 5280 5.1.2.5",
            Self::Number => "RFC 5280 5.2.3",
            Self::Serial => "RFC 5280 4.1.2.2",
            Self::NoEntries => "RFC 5280 5.1.2.6",
            Self::Delta => "RFC 5280 5.2.4",
            Self::Indirect | Self::SomeReasons | Self::AttributeCertificates | Self::RelativeName => {
                "RFC 5280 5.2.5"
            }
            Self::Critical(_) => "RFC 5280 5.2",
            Self::CriticalInEntry(_) => "RFC 5280 5.3",
            Self::Removed(_) => "RFC 5280 5.3.1",
        }
    }
}

impl From<NotDer> for RevocationListError {
    fn from(_: NotDer) -> Self {
        Self::Malformed
    }
}
