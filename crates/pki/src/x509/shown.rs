//! A chain as people are shown it: names, ends and subjects.

use muster_identity::{SpiffeId, UnixTime};

use super::{Certificate, Name, X509Authority, X509Svid};

/// One certificate of a chain, as tools print it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ShownCertificate {
    /// The SPIFFE ID in it, if there is one.
    pub id: Option<SpiffeId>,
    /// When it ends.
    pub not_after: UnixTime,
    /// Its subject in the order of RFC 4514; empty when it has parts that we never write.
    pub subject: String,
}

/// The chain of `svid` up to the one of `authorities` that issued its top. Without such a one it ends where the SVID's own ends.
#[must_use]
pub fn shown_chain(svid: &X509Svid, authorities: &[X509Authority]) -> Vec<ShownCertificate> {
    let above = svid.chain().iter().skip(1);
    let mut chain = vec![svid.leaf().clone()];
    // A chain was parsed when the SVID was: one that does not parse again can't be there.
    chain.extend(above.filter_map(|der| Certificate::parse(der).ok()));
    let issuer = chain.last().and_then(|top| {
        authorities
            .iter()
            .map(X509Authority::certificate)
            .find(|authority| {
                authority.subject() == top.issuer() && authority.subject_key_id() == top.authority_key_id()
            })
    });
    chain.extend(issuer.cloned());
    chain.iter().map(shown).collect()
}

fn shown(certificate: &Certificate) -> ShownCertificate {
    ShownCertificate {
        id: certificate.uris().first().and_then(|uri| uri.parse().ok()),
        not_after: certificate.validity().not_after,
        subject: Name::parse(certificate.subject())
            .map(|name| name.rfc4514())
            .unwrap_or_default(),
    }
}
