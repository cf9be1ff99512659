//! Names of somebody else, kept as the bytes they are.

use super::name::{PRINTABLE_STRING, UTF8_STRING, single_part};
use super::serial::Serial;
use crate::der::{self, NotDer, Reader};

/// Longest name that is taken over. Real ones have some hundred bytes.
const MAX_NAME: usize = 4096;

/// `2.5.4.11`, OU.
const ORGANIZATIONAL_UNIT: [u8; 3] = [0x55, 4, 11];
/// `2.5.4.5`, serialNumber.
const SERIAL_NUMBER: [u8; 3] = [0x55, 4, 5];

/// A DER distinguished name of any attributes, in any number, not empty. [`Name`](super::Name) is what we write ourselves; this is what
/// others wrote and what must come out byte by byte as it went in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RawName(Vec<u8>);

/// Bytes that are no name.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a distinguished name of one part or more (RFC 5280 4.1.2.4), or longer than {MAX_NAME} bytes")]
pub struct RawNameError;

impl From<NotDer> for RawNameError {
    fn from(_: NotDer) -> Self {
        Self
    }
}

impl RawName {
    /// Reads a name. Its parts must be whole; what their attributes mean is not asked.
    ///
    /// # Errors
    /// When it is no name, an empty one, or too long.
    pub fn parse(der: &[u8]) -> Result<Self, RawNameError> {
        if der.len() > MAX_NAME || parts(der)?.is_empty() {
            return Err(RawNameError);
        }
        Ok(Self(der.to_vec()))
    }

    /// The name of an authority below the one that has this name: the same, with `OU=DOWNSTREAM-<depth>` in place of its own OU, as SPIRE's
    /// servers have it, and a serialNumber of its own. SPIRE's keep the parent's; but then each authority below one parent would have one
    /// name, and verifiers confuse authorities that share a name.
    pub(super) fn downstream(&self, depth: usize, serial: &Serial) -> Result<Self, RawNameError> {
        let mut kept = Vec::new();
        for part in parts(&self.0)? {
            let attributes: Vec<&[u8]> = part
                .into_iter()
                .filter(|(kind, _)| *kind != ORGANIZATIONAL_UNIT && *kind != SERIAL_NUMBER)
                .map(|(_, whole)| whole)
                .collect();
            if !attributes.is_empty() {
                kept.push(der::value(der::SET, &attributes));
            }
        }
        let unit = format!("DOWNSTREAM-{depth}");
        kept.push(single_part(&ORGANIZATIONAL_UNIT, UTF8_STRING, &unit));
        kept.push(single_part(&SERIAL_NUMBER, PRINTABLE_STRING, &serial.to_string()));
        let kept: Vec<&[u8]> = kept.iter().map(Vec::as_slice).collect();
        Self::parse(&der::value(der::SEQUENCE, &kept))
    }

    /// The DER bytes, header included.
    #[must_use]
    pub fn as_der(&self) -> &[u8] {
        &self.0
    }
}

/// An attribute of a part: its type and its whole DER.
type Attribute<'a> = (&'a [u8], &'a [u8]);

fn parts(der: &[u8]) -> Result<Vec<Vec<Attribute<'_>>>, NotDer> {
    let mut found = Vec::new();
    let mut names = Reader::new(super::extensions::whole(der, der::SEQUENCE)?);
    while !names.is_empty() {
        let (mut attributes, mut part) = (Reader::new(names.read(der::SET)?), Vec::new());
        while !attributes.is_empty() {
            let (whole, content) = attributes.read_with_header(der::SEQUENCE)?;
            let mut fields = Reader::new(content);
            let kind = fields.read(der::OID)?;
            fields.read_any()?;
            fields.finish()?;
            part.push((kind, whole));
        }
        if part.is_empty() {
            return Err(NotDer);
        }
        found.push(part);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::x509::{Name, ca_subject};

    #[test]
    fn what_is_no_name_is_refused() {
        for bad in [
            &b""[..],
            &[0x30, 0],
            &[0x30, 2, 0x31, 0],
            &[0x30, 4, 0x31, 2, 0x30, 0],
            &[0x30, 3, 0x31],
        ] {
            assert_eq!(RawName::parse(bad), Err(RawNameError), "{bad:?}");
        }
        assert_eq!(RawName::parse(&vec![0x30; MAX_NAME + 1]), Err(RawNameError));
    }

    #[test]
    fn a_name_below_keeps_the_rest_and_has_a_unit_and_a_number_of_its_own() {
        let parent = ca_subject()
            .with(crate::x509::NameAttribute::OrganizationalUnit, "DOWNSTREAM-1")
            .and_then(|name| name.with(crate::x509::NameAttribute::SerialNumber, "7"))
            .expect("a name");
        let parent = RawName::parse(&parent.to_der()).expect("its bytes");
        let serial = Serial::random().expect("randomness");
        let below = parent.downstream(2, &serial).expect("a name");
        let read = Name::parse(below.as_der()).expect("a name of ours");
        assert_eq!(
            read.to_string(),
            format!("C=US,O=SPIFFE,OU=DOWNSTREAM-2,serialNumber={serial}")
        );
    }

    #[test]
    fn repeated_and_multi_valued_parts_stay_as_they_are() {
        let domain = |text| {
            single_part(
                &[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25],
                0x16,
                text,
            )
        };
        let both = der::value(
            der::SET,
            &[
                &single_part(&[0x55, 4, 3], UTF8_STRING, "root")[2..],
                &single_part(&ORGANIZATIONAL_UNIT, UTF8_STRING, "pki")[2..],
            ],
        );
        let whole = der::value(der::SEQUENCE, &[&domain("org"), &domain("example"), &both]);
        let parent = RawName::parse(&whole).expect("a name");
        let below = parent
            .downstream(1, &Serial::random().expect("randomness"))
            .expect("a name");
        let both = [domain("org"), domain("example")].concat();
        let holds = |text: &[u8]| below.as_der().windows(text.len()).any(|part| part == text);
        assert!(holds(&both), "both DC parts, in order");
        assert!(holds(b"root") && !holds(b"pki"), "its CN stays, its OU is gone");
    }
}
