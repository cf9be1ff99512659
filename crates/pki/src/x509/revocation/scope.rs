//! Which certificates of its issuer a list is about (RFC 5280 5.2.5, 4.2.1.13).

use super::list::RevocationListError;
use crate::der::{self, NotDer, Reader};
use crate::x509::certificate::Certificate;
use crate::x509::extensions::whole;

/// More names than this in one distribution point are not looked through.
const MAX_NAMES: usize = 64;
/// Nor more distribution points in one certificate.
const MAX_POINTS: usize = 32;

/// What an issuing distribution point says; without one, everything of the issuer.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Scope {
    holders: Holders,
    /// Where the list is handed out: it is about those certificates alone that point there. None: about all.
    places: Option<Vec<Vec<u8>>>,
    /// Whether there is an issuing distribution point without a place.
    pub(super) lacks_place: bool,
}

/// Whose certificates.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Holders {
    #[default]
    Everybody,
    Users,
    Cas,
}

impl Scope {
    /// From the value of the extension.
    pub(super) fn parse(value: &[u8]) -> Result<Self, RevocationListError> {
        let content = whole(value, der::SEQUENCE)?;
        // 5.2.5: never an empty one.
        if content.is_empty() {
            return Err(NotDer.into());
        }
        let mut fields = Reader::new(content);
        let places = match fields.read_optional(0xa0)? {
            None => None,
            Some(name) => match Place::parse(name)? {
                Place::Full(uris) => Some(uris.into_iter().map(<[u8]>::to_vec).collect()),
                // Relative to the issuer's name: nothing that anybody writes.
                Place::Relative => return Err(RevocationListError::RelativeName),
            },
        };
        let users = flag(&mut fields, 0x81)?;
        let cas = flag(&mut fields, 0x82)?;
        let some_reasons = fields.read_optional(0x83)?.is_some();
        let indirect = flag(&mut fields, 0x84)?;
        let attributes = flag(&mut fields, 0x85)?;
        fields.finish()?;
        if indirect {
            return Err(RevocationListError::Indirect);
        }
        if some_reasons {
            return Err(RevocationListError::SomeReasons);
        }
        if attributes {
            return Err(RevocationListError::AttributeCertificates);
        }
        let holders = match (users, cas) {
            (false, false) => Holders::Everybody,
            (true, false) => Holders::Users,
            (false, true) => Holders::Cas,
            (true, true) => return Err(NotDer.into()),
        };
        Ok(Self {
            holders,
            lacks_place: places.is_none(),
            places,
        })
    }

    /// Whether the list is about a certificate of its issuer (6.3.3 (b)(2)).
    pub(super) fn covers(&self, certificate: &Certificate) -> bool {
        let holder = match self.holders {
            Holders::Everybody => true,
            Holders::Users => !certificate.is_ca(),
            Holders::Cas => certificate.is_ca(),
        };
        let points = certificate.extensions.crl_distribution_points.as_deref();
        holder
            && match (&self.places, points) {
                (None, _) => true,
                // What points nowhere may be on another part of the issuer's list.
                (Some(_), None) => false,
                // A certificate whose points do not read is refused by nobody else, and covered by no part of a list.
                (Some(places), Some(points)) => points_to(points, places).unwrap_or(false),
            }
    }
}

/// Whether one of a certificate's distribution points names one of the places.
fn points_to(value: &[u8], places: &[Vec<u8>]) -> Result<bool, NotDer> {
    let mut points = Reader::new(whole(value, der::SEQUENCE)?);
    let (mut found, mut count) = (false, 0);
    while !points.is_empty() {
        count += 1;
        if count > MAX_POINTS {
            return Err(NotDer);
        }
        let mut fields = Reader::new(points.read(der::SEQUENCE)?);
        let name = fields.read_optional(0xa0)?.map(Place::parse).transpose()?;
        let some_reasons = fields.read_optional(0x81)?.is_some();
        let by_another = fields.read_optional(0xa2)?.is_some();
        fields.finish()?;
        if let (Some(Place::Full(uris)), false, false) = (name, some_reasons, by_another) {
            found |= uris.iter().any(|uri| places.iter().any(|place| place == uri));
        }
    }
    Ok(found)
}

/// `DistributionPointName`. Of the full names only URIs are kept: others are compared by rules of their own.
enum Place<'a> {
    Full(Vec<&'a [u8]>),
    Relative,
}

impl<'a> Place<'a> {
    fn parse(content: &'a [u8]) -> Result<Self, NotDer> {
        let mut choice = Reader::new(content);
        let (tag, content) = choice.read_any()?;
        choice.finish()?;
        match tag {
            0xa0 => {}
            0xa1 => return Ok(Self::Relative),
            _ => return Err(NotDer),
        }
        let mut names = Reader::new(content);
        let (mut uris, mut count) = (Vec::new(), 0);
        while !names.is_empty() {
            count += 1;
            match names.read_any()? {
                (0x86, uri) => uris.push(uri),
                _ if count > MAX_NAMES => return Err(NotDer),
                _ => {}
            }
        }
        if count == 0 || count > MAX_NAMES {
            return Err(NotDer);
        }
        Ok(Self::Full(uris))
    }
}

/// `[n] IMPLICIT BOOLEAN DEFAULT FALSE`.
fn flag(fields: &mut Reader<'_>, tag: u8) -> Result<bool, NotDer> {
    match fields.read_optional(tag)? {
        None | Some([0]) => Ok(false),
        Some([0xff]) => Ok(true),
        Some(_) => Err(NotDer),
    }
}
