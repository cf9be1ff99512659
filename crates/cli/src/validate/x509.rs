//! `muster validate x509`.

use std::path::PathBuf;

use muster_identity::UnixTime;
use muster_pki::x509::{CertificateDer, VerifyError, verify_unrevoked_x509_svid, verify_x509_svid};
use muster_runtime::{Clock, SystemClock};
use rustls_pki_types::pem::PemObject;

use super::{
    lists::{Lists, Read},
    sources::{BundleArgument, Sources},
    verdict::{invalid, valid},
};
use crate::{
    duration,
    failure::{Failure, chain},
    files,
    output::Answer,
};

const WHAT: &str = "X.509-SVID";

#[derive(clap::Args, Debug)]
pub(crate) struct X509 {
    /// The chain, leaf first: PEM, or DER certificates one after the other. - is standard input.
    #[arg(value_name = "CHAIN")]
    chain: PathBuf,
    /// A trust domain's bundle: PEM, DER or a SPIFFE bundle document. Repeat it for several.
    #[arg(long = "bundle", required = true, value_name = "TRUST DOMAIN=FILE")]
    bundles: Vec<BundleArgument>,
    /// A revocation list, PEM or DER. Repeat it for several: every certificate of the path needs one by its issuer. [default:
    /// revocation is not checked]
    #[arg(long = "crl", value_name = "FILE")]
    crls: Vec<PathBuf>,
    /// The moment at which it must be valid, as 2026-01-31T08:00:00Z. [default: now]
    #[arg(long, value_name = "MOMENT", value_parser = duration::parse_moment)]
    at: Option<UnixTime>,
}

impl X509 {
    pub(super) fn run(self) -> Result<Answer, Failure> {
        let (bundles, mut notes) = match Sources::read(&self.bundles)? {
            Sources::Read(bundles, notes) => (bundles, notes),
            Sources::Invalid(why) => return Ok(invalid(WHAT, &why, None)),
        };
        let lists = match Lists::read(&self.crls)? {
            Read::Lists(lists) => lists,
            Read::Invalid(why, section) => return Ok(invalid(WHAT, &why, Some(section))),
        };
        let bytes = files::read(&self.chain)?;
        let Some(certificates) = certificates(&bytes) else {
            return Ok(invalid(
                WHAT,
                "the file is neither PEM nor a row of DER certificates",
                Some("Workload API 5.1"),
            ));
        };
        let now = self.at.unwrap_or_else(|| SystemClock.now());
        let verified = if self.crls.is_empty() {
            verify_x509_svid(&certificates, &bundles, now)
        } else {
            verify_unrevoked_x509_svid(&certificates, &bundles, &lists.lists, now)
        };
        let verified = match verified {
            Ok(verified) => verified,
            Err(error) => return Ok(refused(&error, &lists)),
        };
        let leaf = verified.leaf();
        let mut fields = vec![
            ("SPIFFE ID", verified.id().to_string().into()),
            ("Valid from", leaf.validity().not_before.to_string().into()),
            ("Valid until", leaf.validity().not_after.to_string().into()),
            ("Serial number", leaf.serial().to_string().into()),
            ("DNS names", leaf.dns_names().to_vec().into()),
            ("Authority", verified.authority().id().to_string().into()),
        ];
        if !self.crls.is_empty() {
            let (used, unused) = lists.shown(&certificates);
            fields.push(("Revocation lists", used.into()));
            notes.extend(unused);
        }
        Ok(valid(WHAT, fields, &notes))
    }
}

fn refused(error: &VerifyError, lists: &Lists) -> Answer {
    let list = match error {
        VerifyError::Revocation(error) => error.list().and_then(|list| lists.file(list)),
        _ => None,
    };
    let why = match list {
        Some(file) => format!("{}: {}", file.display(), chain(error)),
        None => chain(error),
    };
    invalid(WHAT, &why, Some(error.section()))
}

/// The certificates of a file, in either form. Other PEM blocks, as the key that belongs to the chain, are left
/// alone.
fn certificates(bytes: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    if bytes.trim_ascii_start().starts_with(b"-----") || bytes.is_ascii() {
        let certificates = CertificateDer::pem_slice_iter(bytes)
            .collect::<Result<Vec<_>, _>>()
            .ok()?;
        return (!certificates.is_empty()).then_some(certificates);
    }
    split(bytes)
}

/// Takes DER values that stand one after the other apart, by their headers alone; what is in them is for the
/// verification to judge.
fn split(mut rest: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    const SEQUENCE: u8 = 0x30;
    let mut found = Vec::new();
    while let [SEQUENCE, first, ..] = *rest {
        let (header, length) = match first {
            0..=0x7f => (2, usize::from(first)),
            0x81..=0x83 => {
                let octets = usize::from(first & 0x7f);
                let length = rest
                    .get(2..2 + octets)?
                    .iter()
                    .fold(0, |sum, octet| sum << 8 | usize::from(*octet));
                (2 + octets, length)
            }
            _ => return None,
        };
        let (whole, following) = rest.split_at_checked(header + length)?;
        found.push(CertificateDer::from(whole.to_vec()));
        rest = following;
    }
    (rest.is_empty() && !found.is_empty()).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_taken_apart_by_their_headers() {
        let two = [&[0x30, 1, 7][..], &[0x30, 0x81, 0x80], &[9; 128]].concat();
        let lengths: Vec<usize> = split(&two)
            .unwrap()
            .iter()
            .map(|certificate| certificate.len())
            .collect();
        assert_eq!(lengths, [3, 131]);
        for wrong in [
            &b""[..],
            &[0x30],
            &[0x30, 2, 7],
            &[0x30, 1, 7, 0],
            &[0x30, 0x84, 0, 0, 0, 0],
            &[0x31, 0],
        ] {
            assert_eq!(split(wrong), None, "{wrong:?}");
        }
    }
}
