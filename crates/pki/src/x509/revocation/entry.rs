//! One certificate on a list.

use std::fmt;

use muster_identity::UnixTime;

use super::list::RevocationListError;
use crate::der::{self, NotDer, Reader};
use crate::x509::extensions::{each, whole};
use crate::x509::serial::Serial;
use crate::x509::validity::{GENERALIZED_TIME, time};

/// Tag of `ENUMERATED`.
const ENUMERATED: u8 = 0x0a;

/// A certificate that its issuer took back (RFC 5280 5.1.2.6, 5.3).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Revoked {
    /// Its serial number.
    pub serial: Serial,
    /// When the issuer revoked it.
    pub at: UnixTime,
    /// Why.
    pub reason: Reason,
}

/// Why a certificate was taken back (RFC 5280 5.3.1). Prints as the standard has it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the standard's words")]
pub enum Reason {
    /// Also where nothing is said.
    Unspecified,
    KeyCompromise,
    CaCompromise,
    AffiliationChanged,
    Superseded,
    CessationOfOperation,
    /// For the time being; it counts as revoked until a list no longer names it.
    CertificateHold,
    PrivilegeWithdrawn,
    AaCompromise,
}

impl Revoked {
    /// From the content of an entry's `SEQUENCE`.
    pub(super) fn parse(content: &[u8]) -> Result<Self, RevocationListError> {
        let mut fields = Reader::new(content);
        let serial =
            Serial::from_der_content(fields.read(der::INTEGER)?).ok_or(RevocationListError::Serial)?;
        let at = time(&mut fields)?;
        let mut reason = None;
        if let Some(extensions) = fields.read_optional(der::SEQUENCE)? {
            if extensions.is_empty() {
                return Err(NotDer.into());
            }
            each(extensions, |oid, critical, value| match oid {
                // RFC 5280 5.3.3: of a list that speaks for other issuers, critical or not.
                [0x55, 0x1d, 29] => Err(RevocationListError::Indirect),
                // None of those that are known here may be critical (5.3.1, 5.3.2); of the others nobody knows what they say.
                _ if critical => Err(RevocationListError::CriticalInEntry(serial.clone())),
                [0x55, 0x1d, 21] => {
                    reason = Some(match whole(value, ENUMERATED)? {
                        // 5.3.1: of delta lists alone.
                        [8] => return Err(RevocationListError::Removed(serial.clone())),
                        [code] => Reason::from_code(*code).ok_or(NotDer)?,
                        _ => return Err(NotDer.into()),
                    });
                    Ok(())
                }
                // 5.3.2: since when it should not have been trusted. It counts from the list on, whatever stands here.
                [0x55, 0x1d, 24] => {
                    let mut date = Reader::new(value);
                    if date.peek() != Some(GENERALIZED_TIME) {
                        return Err(NotDer.into());
                    }
                    time(&mut date)?;
                    Ok(date.finish()?)
                }
                _ => Ok(()),
            })?;
        }
        fields.finish()?;
        Ok(Self {
            serial,
            at,
            reason: reason.unwrap_or(Reason::Unspecified),
        })
    }
}

impl Reason {
    /// 7 is nobody's, 8 takes a certificate off a list.
    fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Unspecified,
            1 => Self::KeyCompromise,
            2 => Self::CaCompromise,
            3 => Self::AffiliationChanged,
            4 => Self::Superseded,
            5 => Self::CessationOfOperation,
            6 => Self::CertificateHold,
            9 => Self::PrivilegeWithdrawn,
            10 => Self::AaCompromise,
            _ => return None,
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unspecified => "unspecified",
            Self::KeyCompromise => "keyCompromise",
            Self::CaCompromise => "cACompromise",
            Self::AffiliationChanged => "affiliationChanged",
            Self::Superseded => "superseded",
            Self::CessationOfOperation => "cessationOfOperation",
            Self::CertificateHold => "certificateHold",
            Self::PrivilegeWithdrawn => "privilegeWithdrawn",
            Self::AaCompromise => "aACompromise",
        })
    }
}
