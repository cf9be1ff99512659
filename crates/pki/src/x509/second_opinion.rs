//! A general library's opinion on a path that our own rules accepted.
//!
//! Two independent pieces of code must agree before a peer is believed. It is asked about exactly the path that was
//! found: these intermediates, this one authority. Its say is left out only where it has none: it refuses every chain
//! with a URI name constraint, which our own rules evaluate. Of the revocation lists that our own rules believed it is
//! asked too, where it can tell them apart: it takes the first one of an issuer's name, and reads no issuing
//! distribution point without a place.

use std::time::Duration;

use muster_identity::UnixTime;
use rustls_pki_types::CertificateDer;
use webpki::{
    BorrowedCertRevocationList, CertRevocationList, EndEntityCert, ExpirationPolicy,
    ExtendedKeyUsageValidator, KeyPurposeIdIter, KeyUsage, RevocationOptionsBuilder,
};

use super::path::Path;
use super::revocation::RevocationList;

/// The most authorities between a leaf and the root on a path that the library follows.
pub(super) const MAX_BETWEEN: usize = 6;

/// What the certificates of a path must be for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    /// clientAuth, where they say anything.
    Client,
    /// Whatever they say.
    Any,
}

pub(super) fn confirm(
    path: &Path<'_>,
    purpose: Purpose,
    lists: &[&RevocationList],
    now: UnixTime,
) -> Result<(), webpki::Error> {
    let [leaf, intermediates @ ..] = path.certificates.as_slice() else {
        return Err(webpki::Error::BadDer);
    };
    let issuers = intermediates
        .iter()
        .copied()
        .chain([path.authority.certificate()]);
    let mut constraints = issuers.filter_map(|issuer| issuer.extensions.name_constraints.as_ref());
    if constraints.any(|constraints| constraints.speaks_of_uris()) {
        return Ok(());
    }
    let anchor = webpki::anchor_from_trusted_cert(path.authority.der())?;
    let intermediates: Vec<CertificateDer<'_>> = intermediates
        .iter()
        .map(|certificate| CertificateDer::from(certificate.der().as_ref()))
        .collect();
    let lists: Vec<CertRevocationList<'_>> = if is_asked_about(lists, path) {
        let read = lists
            .iter()
            .map(|list| BorrowedCertRevocationList::from_der(list.der()));
        read.map(|list| list.map(Into::into)).collect::<Result<_, _>>()?
    } else {
        Vec::new()
    };
    let lists: Vec<_> = lists.iter().collect();
    // What is left unsaid is the strict way: the whole path, and none of it unknown.
    let revocation = RevocationOptionsBuilder::new(&lists).ok();
    let revocation = revocation.map(|asked| asked.with_expiration_policy(ExpirationPolicy::Enforce).build());
    let seconds = u64::try_from(now.as_secs()).map_err(|_| webpki::Error::BadDerTime)?;
    EndEntityCert::try_from(leaf.der())?
        .verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &[anchor],
            &intermediates,
            rustls_pki_types::UnixTime::since_unix_epoch(Duration::from_secs(seconds)),
            purpose,
            revocation,
            None,
        )
        .map(drop)
}

fn is_asked_about(lists: &[&RevocationList], path: &Path<'_>) -> bool {
    // Issuers of one name: an authority that certifies its own next key.
    let namesakes = path
        .certificates
        .iter()
        .skip(1)
        .any(|certificate| certificate.is_self_issued());
    !namesakes && lists.iter().all(|list| list.is_read_by_others())
}

impl ExtendedKeyUsageValidator for Purpose {
    fn validate(&self, purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        match self {
            Self::Client => KeyUsage::client_auth().validate(purposes),
            Self::Any => Ok(()),
        }
    }
}
