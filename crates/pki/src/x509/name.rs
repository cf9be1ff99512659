//! Distinguished names: the few attributes that our certificates carry.

use std::fmt;

use crate::der::{self, NotDer, Reader};

/// Longest value of one attribute (RFC 5280 appendix A: `ub-common-name` and its like are 64).
const MAX_VALUE: usize = 64;
pub(super) const UTF8_STRING: u8 = 0x0c;
pub(super) const PRINTABLE_STRING: u8 = 0x13;

/// An attribute type of a name.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum NameAttribute {
    /// `C`
    Country,
    /// `ST`
    State,
    /// `L`
    Locality,
    /// `O`
    Organization,
    /// `OU`
    OrganizationalUnit,
    /// `CN`
    CommonName,
    /// `serialNumber`
    SerialNumber,
}

impl NameAttribute {
    const ALL: [(Self, u8, &str); 7] = [
        (Self::Country, 6, "C"),
        (Self::State, 8, "ST"),
        (Self::Locality, 7, "L"),
        (Self::Organization, 10, "O"),
        (Self::OrganizationalUnit, 11, "OU"),
        (Self::CommonName, 3, "CN"),
        (Self::SerialNumber, 5, "serialNumber"),
    ];

    fn from_oid(oid: &[u8]) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find_map(|(attribute, arc, _)| (oid == [0x55, 4, arc]).then_some(attribute))
    }

    /// RFC 5280 appendix A: country and serialNumber are PrintableString, the others DirectoryString.
    fn is_printable(self) -> bool {
        matches!(self, Self::Country | Self::SerialNumber)
    }

    /// The part of a name that has this attribute alone.
    fn part(self, value: &str) -> Vec<u8> {
        let arc = Self::ALL
            .into_iter()
            .find(|(attribute, ..)| *attribute == self)
            .map_or(0, |(_, arc, _)| arc);
        let tag = if self.is_printable() {
            PRINTABLE_STRING
        } else {
            UTF8_STRING
        };
        single_part(&[0x55, 4, arc], tag, value)
    }

    fn label(self) -> &'static str {
        Self::ALL
            .into_iter()
            .find(|(attribute, ..)| *attribute == self)
            .map_or("?", |(.., label)| label)
    }
}

/// A distinguished name: attributes of known types, each at most once, in order.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Name {
    attributes: Vec<(NameAttribute, String)>,
}

impl Name {
    /// An empty name.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// Adds an attribute at the end.
    ///
    /// # Errors
    /// When the type is there already, or the value is empty, too long, holds control characters, or does not go with
    /// the type.
    pub fn with(mut self, attribute: NameAttribute, value: &str) -> Result<Self, NameError> {
        let label = attribute.label();
        if value.is_empty() || value.chars().count() > MAX_VALUE {
            return Err(NameError::Length(label));
        }
        if value.chars().any(char::is_control) {
            return Err(NameError::Characters(label));
        }
        let two_letters = value.len() == 2 && value.bytes().all(|byte| byte.is_ascii_alphabetic());
        if attribute == NameAttribute::Country && !two_letters {
            return Err(NameError::Country);
        }
        if attribute == NameAttribute::SerialNumber && !value.bytes().all(|byte| byte.is_ascii_alphanumeric())
        {
            return Err(NameError::Characters(label));
        }
        if self.attributes.iter().any(|(present, _)| *present == attribute) {
            return Err(NameError::Twice(label));
        }
        self.attributes.push((attribute, value.to_owned()));
        Ok(self)
    }

    /// Reads a DER `Name` of single-valued RDNs of known types; everything else is an error, never left out.
    pub fn parse(der: &[u8]) -> Result<Self, NameError> {
        let mut name = Self::default();
        for (oid, value) in attributes(der).map_err(|NotDer| NameError::Malformed)? {
            let attribute = NameAttribute::from_oid(oid).ok_or(NameError::Attribute)?;
            name = name.with(attribute, value)?;
        }
        Ok(name)
    }

    /// The DER name.
    #[must_use]
    pub fn to_der(&self) -> Vec<u8> {
        let parts: Vec<_> = self
            .attributes
            .iter()
            .map(|(attribute, value)| attribute.part(value))
            .collect();
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        der::value(der::SEQUENCE, &parts)
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.attributes.is_empty()
    }

    /// The value of an attribute.
    #[must_use]
    pub fn value(&self, attribute: NameAttribute) -> Option<&str> {
        self.attributes
            .iter()
            .find(|(present, _)| *present == attribute)
            .map(|(_, value)| value.as_str())
    }

    /// `O=SPIFFE,C=US`: the last part first (RFC 4514 2.1), with what has a meaning there escaped, as Go and so SPIRE's tools print it.
    #[must_use]
    pub fn rfc4514(&self) -> String {
        let mut text = String::new();
        for (attribute, value) in self.attributes.iter().rev() {
            if !text.is_empty() {
                text.push(',');
            }
            text.push_str(&attribute.label().to_uppercase());
            text.push('=');
            let last = value.chars().count() - 1;
            for (at, letter) in value.chars().enumerate() {
                let edge = at == 0 && " #".contains(letter) || at == last && letter == ' ';
                if edge || ",+\"\\<>;".contains(letter) {
                    text.push('\\');
                }
                text.push(letter);
            }
        }
        text
    }

    /// The form in which it goes into a certificate.
    pub(super) fn to_rcgen(&self) -> rcgen::DistinguishedName {
        let mut name = rcgen::DistinguishedName::new();
        for (attribute, value) in &self.attributes {
            let kind = match attribute {
                NameAttribute::Country => rcgen::DnType::CountryName,
                NameAttribute::State => rcgen::DnType::StateOrProvinceName,
                NameAttribute::Locality => rcgen::DnType::LocalityName,
                NameAttribute::Organization => rcgen::DnType::OrganizationName,
                NameAttribute::OrganizationalUnit => rcgen::DnType::OrganizationalUnitName,
                NameAttribute::CommonName => rcgen::DnType::CommonName,
                NameAttribute::SerialNumber => rcgen::DnType::CustomDnType(vec![2, 5, 4, 5]),
            };
            let value = match value.as_str().try_into() {
                Ok(text) if attribute.is_printable() => rcgen::DnValue::PrintableString(text),
                _ => rcgen::DnValue::Utf8String(value.clone()),
            };
            name.push(kind, value);
        }
        name
    }
}

impl fmt::Display for Name {
    /// `C=US,O=SPIFFE`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (attribute, value)) in self.attributes.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{}={value}", attribute.label())?;
        }
        Ok(())
    }
}

/// Why a name is not one that we write.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NameError {
    /// Not a DER name of single-valued RDNs.
    #[error("not a distinguished name of single-valued parts")]
    Malformed,
    /// An attribute that our certificates never carry.
    #[error("the name has an attribute other than C, ST, L, O, OU, CN or serialNumber")]
    Attribute,
    /// One attribute type twice.
    #[error("the name has {0} twice")]
    Twice(&'static str),
    /// Empty or over 64 characters.
    #[error("{0} is empty or longer than 64 characters")]
    Length(&'static str),
    /// Control characters, or others that the type does not allow.
    #[error("{0} has characters that are not allowed there")]
    Characters(&'static str),
    /// Not two letters.
    #[error("C is not a country code of two letters")]
    Country,
}

/// Whether `der` is a distinguished name at all (RFC 5280 4.1.2.4): no part of one is read by any rule, but what has no
/// form has no meaning that two readers would agree on.
pub(super) fn check_form(der: &[u8]) -> Result<(), NotDer> {
    let mut rdns = Reader::new(super::extensions::whole(der, der::SEQUENCE)?);
    while !rdns.is_empty() {
        let mut attributes = Reader::new(rdns.read(der::SET)?);
        // At least one.
        loop {
            let mut fields = Reader::new(attributes.read(der::SEQUENCE)?);
            fields.read_oid()?;
            let well = match fields.read_any()? {
                (0x0c, text) => std::str::from_utf8(text).is_ok(),
                (0x13 | 0x16, text) => text.is_ascii(),
                _ => true,
            };
            fields.finish()?;
            if !well {
                return Err(NotDer);
            }
            if attributes.is_empty() {
                break;
            }
        }
    }
    Ok(())
}

/// A part of a name with one attribute: its type's OID, the tag of its text, and the text.
pub(super) fn single_part(kind: &[u8], tag: u8, text: &str) -> Vec<u8> {
    let kind = der::value(der::OID, &[kind]);
    let text = der::value(tag, &[text.as_bytes()]);
    let attribute = der::value(der::SEQUENCE, &[&kind, &text]);
    der::value(der::SET, &[&attribute])
}

/// The attributes as (OID, text), in order.
fn attributes(der: &[u8]) -> Result<Vec<(&[u8], &str)>, NotDer> {
    let mut found = Vec::new();
    let mut rdns = Reader::new(super::extensions::whole(der, der::SEQUENCE)?);
    while !rdns.is_empty() {
        // An RDN with no attribute, or with two, is refused by what follows.
        let mut fields = Reader::new(super::extensions::whole(rdns.read(der::SET)?, der::SEQUENCE)?);
        let oid = fields.read(der::OID)?;
        let text = match fields.read_any()? {
            (0x0c | 0x13 | 0x16, text) => std::str::from_utf8(text).map_err(|_| NotDer)?,
            _ => return Err(NotDer),
        };
        fields.finish()?;
        found.push((oid, text));
    }
    Ok(found)
}

/// The text of the only common name in a DER `Name` of any shape; none when there is none, more than one, or one that is no text.
pub(super) fn common_name(der: &[u8]) -> Option<&str> {
    let mut found = None;
    let mut rdns = Reader::new(super::extensions::whole(der, der::SEQUENCE).ok()?);
    while !rdns.is_empty() {
        let mut parts = Reader::new(rdns.read(der::SET).ok()?);
        while !parts.is_empty() {
            let mut fields = Reader::new(parts.read(der::SEQUENCE).ok()?);
            if fields.read(der::OID).ok()? != [0x55, 4, 3] {
                continue;
            }
            let text = match fields.read_any().ok()? {
                (0x0c | 0x13 | 0x16, text) => std::str::from_utf8(text).ok()?,
                _ => return None,
            };
            if found.replace(text).is_some() {
                return None;
            }
        }
    }
    found.filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_print_in_order_and_refuse_what_is_not_theirs() {
        use NameAttribute as A;
        let name = Name::empty()
            .with(A::Country, "US")
            .and_then(|name| name.with(A::Organization, "SPIFFE"));
        assert_eq!(
            name.as_ref().map(ToString::to_string),
            Ok("C=US,O=SPIFFE".to_owned())
        );
        let name = name.expect("a name");
        assert_eq!(
            name.clone().with(A::Organization, "x"),
            Err(NameError::Twice("O"))
        );
        assert_eq!(name.clone().with(A::CommonName, ""), Err(NameError::Length("CN")));
        assert_eq!(
            name.clone().with(A::CommonName, &"x".repeat(65)),
            Err(NameError::Length("CN"))
        );
        assert_eq!(
            name.clone().with(A::CommonName, "a\nb"),
            Err(NameError::Characters("CN"))
        );
        assert_eq!(Name::empty().with(A::Country, "USA"), Err(NameError::Country));
        assert_eq!(
            name.with(A::SerialNumber, "12 34"),
            Err(NameError::Characters("serialNumber"))
        );
    }

    #[test]
    fn a_name_of_any_certificate_has_a_form() {
        let attribute =
            |tag, text: &[u8]| der::value(der::SEQUENCE, &[&[6, 3, 0x55, 4, 3], &der::value(tag, &[text])]);
        let name = |attributes: &[&[u8]]| der::value(der::SEQUENCE, &[&der::value(der::SET, attributes)]);
        let (one, two) = (attribute(0x0c, b"a"), attribute(0x1e, b"\0b"));
        for good in [vec![0x30, 0], name(&[&one]), name(&[&one, &two])] {
            assert_eq!(check_form(&good), Ok(()), "{good:x?}");
        }
        for bad in [
            name(&[]),
            name(&[&attribute(0x0c, b"\xff")]),
            name(&[&attribute(0x13, b"\xff")]),
            name(&[&one, &[5, 0]]),
            name(&[&[0x30, 2, 6, 0]]),
            vec![0x30, 2, 5, 0],
            vec![0x30, 0, 0],
        ] {
            assert_eq!(check_form(&bad), Err(NotDer), "{bad:x?}");
        }
    }

    #[test]
    fn the_form_of_rfc_4514_begins_at_the_end_and_escapes() {
        use NameAttribute as A;
        let parts = [
            (A::Country, "US"),
            (A::Organization, "#a, b "),
            (A::SerialNumber, "12"),
        ];
        let name = parts.iter().try_fold(Name::empty(), |name, (attribute, value)| {
            name.with(*attribute, value)
        });
        assert_eq!(
            name.expect("a name").rfc4514(),
            "SERIALNUMBER=12,O=\\#a\\, b\\ ,C=US"
        );
        assert_eq!(Name::empty().rfc4514(), "");
    }

    #[test]
    fn an_empty_or_multi_valued_part_is_refused_not_skipped() {
        assert_eq!(Name::parse(&[0x30, 0]), Ok(Name::empty()));
        assert_eq!(Name::parse(&[0x30, 2, 0x31, 0]), Err(NameError::Malformed));
        let one = der::value(der::SEQUENCE, &[&[6, 3, 0x55, 4, 3, 0x0c, 1, b'a']]);
        let two = der::value(der::SEQUENCE, &[&der::value(der::SET, &[&one, &one])]);
        assert_eq!(Name::parse(&two), Err(NameError::Malformed));
        let single = der::value(der::SEQUENCE, &[&der::value(der::SET, &[&one])]);
        let name = Name::parse(&single).expect("a name");
        assert_eq!(name.to_string(), "CN=a");
        assert_eq!(name.to_der(), single);
    }
}
