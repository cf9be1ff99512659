//! The extensions that the rules look at. Everything else that is critical makes a certificate unusable.

use super::name_constraints::NameConstraints;
use crate::der::{self, NotDer, Reader};

/// More extensions than this are nobody's certificate.
const MAX_EXTENSIONS: usize = 32;
/// More names than this are not looked through (the work per name is multiplied by that of the constraints).
const MAX_NAMES: usize = 256;

/// What was found (RFC 5280 4.2).
#[derive(Clone, Debug, Default)]
pub(super) struct Extensions {
    pub(super) basic_constraints: Option<BasicConstraints>,
    pub(super) key_usage: Option<KeyUsage>,
    pub(super) extended_key_usage: Option<ExtendedKeyUsage>,
    pub(super) alternative_names: Option<AlternativeNames>,
    pub(super) name_constraints: Option<NameConstraints>,
    pub(super) subject_key_id: Option<Vec<u8>>,
    pub(super) authority_key_id: Option<Vec<u8>>,
    /// As it stands there: it is read where a revocation list asks for it, and no rule of paths does.
    pub(super) crl_distribution_points: Option<Vec<u8>>,
    /// Something critical that is none of the above.
    pub(super) unknown_critical: bool,
}

/// RFC 5280 4.2.1.9.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct BasicConstraints {
    pub(super) ca: bool,
    pub(super) path_length: Option<u32>,
}

/// RFC 5280 4.2.1.3, the bits that the standards name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct KeyUsage {
    pub(super) critical: bool,
    pub(super) digital_signature: bool,
    pub(super) key_cert_sign: bool,
    pub(super) crl_sign: bool,
}

/// RFC 5280 4.2.1.12.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct ExtendedKeyUsage {
    pub(super) server_auth: bool,
    pub(super) client_auth: bool,
    pub(super) any: bool,
}

/// RFC 5280 4.2.1.6.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct AlternativeNames {
    pub(super) critical: bool,
    pub(super) uris: Vec<String>,
    pub(super) dns: Vec<String>,
    pub(super) ips: Vec<Vec<u8>>,
    /// Mail addresses, directory names and whatever else there is: never looked at, but constraints may speak of them.
    pub(super) others: bool,
}

impl Extensions {
    /// From the content of `SEQUENCE OF Extension`.
    pub(super) fn parse(content: &[u8]) -> Result<Self, NotDer> {
        let mut found = Self::default();
        each(content, |oid, critical, value| found.take(oid, critical, value))?;
        Ok(found)
    }

    fn take(&mut self, oid: &[u8], critical: bool, value: &[u8]) -> Result<(), NotDer> {
        match oid {
            // RFC 5280 4.2.1.1, 4.2.1.2: never critical. The key ids are not part of any rule here, so that one which is
            // critical is one that nobody evaluates.
            [0x55, 0x1d, 14] => {
                self.subject_key_id = Some(whole(value, der::OCTET_STRING)?.to_vec());
                self.unknown_critical |= critical;
            }
            [0x55, 0x1d, 15] => self.key_usage = Some(KeyUsage::parse(critical, value)?),
            [0x55, 0x1d, 17] => self.alternative_names = Some(AlternativeNames::parse(critical, value)?),
            [0x55, 0x1d, 19] => self.basic_constraints = Some(BasicConstraints::parse(value)?),
            [0x55, 0x1d, 30] => self.name_constraints = Some(NameConstraints::parse(value)?),
            [0x55, 0x1d, 31] => {
                self.crl_distribution_points = Some(value.to_vec());
                self.unknown_critical |= critical;
            }
            [0x55, 0x1d, 35] => {
                let mut fields = Reader::new(whole(value, der::SEQUENCE)?);
                self.authority_key_id = fields.read_optional(0x80)?.map(<[u8]>::to_vec);
                // Names and serial number of the issuer's own certificate, which nothing here looks at.
                fields.read_optional(0xa1)?;
                fields.read_optional(0x82)?;
                fields.finish()?;
                self.unknown_critical |= critical;
            }
            [0x55, 0x1d, 37] => self.extended_key_usage = Some(ExtendedKeyUsage::parse(value)?),
            _ => self.unknown_critical |= critical,
        }
        Ok(())
    }
}

impl BasicConstraints {
    fn parse(value: &[u8]) -> Result<Self, NotDer> {
        let mut fields = Reader::new(whole(value, der::SEQUENCE)?);
        let ca = fields.read_default_false()?;
        let path_length = match fields.read_optional(der::INTEGER)? {
            None => None,
            // Chains end after a handful of certificates; what does not fit a byte is as good as no bound.
            Some([bound @ 0..=0x7f]) => Some(u32::from(*bound)),
            Some([0, 0x80..=0xff, ..] | [1..=0x7f, ..]) => Some(u32::MAX),
            Some(_) => return Err(NotDer),
        };
        fields.finish()?;
        Ok(Self { ca, path_length })
    }
}

impl KeyUsage {
    fn parse(critical: bool, value: &[u8]) -> Result<Self, NotDer> {
        let (first, last, unused) = match whole(value, der::BIT_STRING)? {
            [unused @ 0..=7, first] => (*first, *first, *unused),
            [unused @ 0..=7, first, last] => (*first, *last, *unused),
            _ => return Err(NotDer),
        };
        // No bit that the encoding calls unused may be set, and no usage at all is no usage (RFC 5280 4.2.1.3).
        if first == 0 || last.trailing_zeros() < u32::from(unused) {
            return Err(NotDer);
        }
        Ok(Self {
            critical,
            digital_signature: first & 0x80 != 0,
            key_cert_sign: first & 0x04 != 0,
            crl_sign: first & 0x02 != 0,
        })
    }
}

impl ExtendedKeyUsage {
    fn parse(value: &[u8]) -> Result<Self, NotDer> {
        let mut list = Reader::new(whole(value, der::SEQUENCE)?);
        let mut found = Self::default();
        if list.is_empty() {
            return Err(NotDer);
        }
        while !list.is_empty() {
            match list.read(der::OID)? {
                [0x2b, 6, 1, 5, 5, 7, 3, 1] => found.server_auth = true,
                [0x2b, 6, 1, 5, 5, 7, 3, 2] => found.client_auth = true,
                [0x55, 0x1d, 0x25, 0] => found.any = true,
                _ => {}
            }
        }
        Ok(found)
    }
}

impl AlternativeNames {
    pub(super) fn parse(critical: bool, value: &[u8]) -> Result<Self, NotDer> {
        let mut list = Reader::new(whole(value, der::SEQUENCE)?);
        let mut found = Self {
            critical,
            ..Self::default()
        };
        let mut count = 0;
        while !list.is_empty() {
            count += 1;
            if count > MAX_NAMES {
                return Err(NotDer);
            }
            match list.read_any()? {
                (0x82, name) => found.dns.push(ascii(name)?),
                (0x86, name) => found.uris.push(ascii(name)?),
                (0x87, address) if matches!(address.len(), 4 | 16) => found.ips.push(address.to_vec()),
                (0x87, _) => return Err(NotDer),
                _ => found.others = true,
            }
        }
        // RFC 5280 4.2.1.6: at least one.
        if count == 0 { Err(NotDer) } else { Ok(found) }
    }
}

/// Gives each of `SEQUENCE OF Extension` to `take`: its identifier, whether it is critical, its value.
pub(super) fn each<'a, E: From<NotDer>>(
    content: &'a [u8],
    mut take: impl FnMut(&'a [u8], bool, &'a [u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut seen: Vec<&[u8]> = Vec::new();
    let mut list = Reader::new(content);
    while !list.is_empty() {
        let mut fields = Reader::new(list.read(der::SEQUENCE)?);
        let oid = fields.read_oid()?;
        let critical = fields.read_default_false()?;
        let value = fields.read(der::OCTET_STRING)?;
        fields.finish()?;
        // An extension that stands there twice has two meanings (RFC 5280 4.2).
        if seen.contains(&oid) || seen.len() == MAX_EXTENSIONS {
            return Err(NotDer.into());
        }
        seen.push(oid);
        take(oid, critical, value)?;
    }
    Ok(())
}

/// The content of the one value that fills all of `value`.
pub(super) fn whole(value: &[u8], tag: u8) -> Result<&[u8], NotDer> {
    let mut outer = Reader::new(value);
    let content = outer.read(tag)?;
    outer.finish()?;
    Ok(content)
}

/// An IA5String: seven-bit characters only.
pub(super) fn ascii(bytes: &[u8]) -> Result<String, NotDer> {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.is_ascii() => Ok(text.to_owned()),
        _ => Err(NotDer),
    }
}
