//! From a leaf to an authority that is trusted for it (RFC 5280 6, XS 5.1).

use muster_identity::UnixTime;

use super::authority::X509Authority;
use super::certificate::Certificate;
use super::leaf::is_trust_domain_uri;

/// Signatures that one search may check. Paths of eight certificates with a few namesakes need a handful; a chain that
/// was made to branch gets no more of our time than this.
const SIGNATURE_BUDGET: u32 = 100;

/// A path that holds: the leaf, then whoever issued each, and the authority at its end.
#[derive(Debug)]
pub(super) struct Path<'a> {
    pub(super) certificates: Vec<&'a Certificate>,
    pub(super) authority: &'a X509Authority,
}

impl<'a> Path<'a> {
    /// Finds a path. The leaf's own profile is not looked at here.
    pub(super) fn find(
        leaf: &'a Certificate,
        intermediates: &'a [Certificate],
        authorities: &'a [X509Authority],
        profile: Profile,
        now: UnixTime,
    ) -> Result<Self, PathError> {
        in_time(leaf, now)?;
        let mut search = Search {
            intermediates,
            authorities,
            profile,
            now,
            budget: SIGNATURE_BUDGET,
            certificates: vec![leaf],
            nearest: PathError::UnknownAuthority,
        };
        match search.extend() {
            Some(authority) => Ok(Self {
                certificates: search.certificates,
                authority,
            }),
            None => Err(search.nearest),
        }
    }
}

/// By whose rules a path is judged.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Profile {
    /// Those of X509-SVID.
    Svid,
    /// Those of RFC 5280 alone: a PKI that knows nothing of SPIFFE bounds the purposes of its issuers as it likes.
    Any,
}

struct Search<'a> {
    intermediates: &'a [Certificate],
    authorities: &'a [X509Authority],
    profile: Profile,
    now: UnixTime,
    budget: u32,
    /// The path so far, leaf first.
    certificates: Vec<&'a Certificate>,
    /// Of all that failed, the failure that came nearest to a path: it tells the reader most.
    nearest: PathError,
}

impl<'a> Search<'a> {
    /// Depth first; authorities before intermediates, so the shortest way up is taken.
    fn extend(&mut self) -> Option<&'a X509Authority> {
        let last = *self.certificates.last()?;
        for authority in self.authorities {
            let issuer = authority.certificate();
            if issuer.subject() == last.issuer() {
                match self.judge(last, issuer, Place::Authority) {
                    Ok(()) => return Some(authority),
                    Err(error) => self.nearest = self.nearest.max(error),
                }
            }
        }
        for issuer in self.intermediates {
            let is_in_path = self.certificates.contains(&issuer);
            if issuer.subject() != last.issuer() || is_in_path {
                continue;
            }
            if let Err(error) = self.judge(last, issuer, Place::Intermediate) {
                self.nearest = self.nearest.max(error);
                continue;
            }
            self.certificates.push(issuer);
            if let Some(authority) = self.extend() {
                return Some(authority);
            }
            self.certificates.pop();
        }
        None
    }

    /// Whether `issuer` may stand above the path so far and really signed its last certificate. Cheap rules come first.
    fn judge(&mut self, last: &Certificate, issuer: &Certificate, place: Place) -> Result<(), PathError> {
        if self.budget == 0 {
            return Err(PathError::Budget);
        }
        let extensions = &issuer.extensions;
        if extensions.unknown_critical {
            return Err(PathError::UnknownCritical);
        }
        // XS 3.2, 4.1.
        if !issuer.is_ca() {
            return Err(PathError::NotCa);
        }
        // XS 4.3. A configured authority without key usage was accepted as such; an intermediate never is.
        match extensions.key_usage {
            Some(usage) if usage.key_cert_sign => {}
            None if place == Place::Authority => {}
            _ => return Err(PathError::KeyUsage),
        }
        // RFC 5280 4.2.1.12 in its usual reading: purposes in a CA certificate bound what stands below.
        if self.profile == Profile::Svid
            && extensions
                .extended_key_usage
                .is_some_and(|usage| !(usage.any || usage.server_auth && usage.client_auth))
        {
            return Err(PathError::ExtendedKeyUsage);
        }
        // XS 3.2: a signing certificate's SPIFFE ID has no path.
        let names_a_workload = |uri: &String| uri.starts_with("spiffe://") && !is_trust_domain_uri(uri);
        if self.profile == Profile::Svid
            && place == Place::Intermediate
            && issuer.uris().iter().any(names_a_workload)
        {
            return Err(PathError::SigningPath);
        }
        in_time(issuer, self.now)?;
        // RFC 5280 4.2.1.9: certificates between this one and the leaf, self-issued ones not counted.
        let below = self
            .certificates
            .iter()
            .skip(1)
            .filter(|certificate| !certificate.is_self_issued())
            .count();
        let bound = extensions
            .basic_constraints
            .and_then(|constraints| constraints.path_length);
        if bound.is_some_and(|bound| below > bound as usize) {
            return Err(PathError::Length);
        }
        if let Some(constraints) = &extensions.name_constraints {
            let allowed = self.certificates.iter().enumerate().all(|(at, certificate)| {
                // RFC 5280 6.1.3 (b): self-issued intermediates are exempt, the leaf never.
                (at > 0 && certificate.is_self_issued())
                    || constraints.allow(
                        certificate.extensions.alternative_names.as_ref(),
                        certificate.subject_is_empty(),
                    )
            });
            if !allowed {
                return Err(PathError::NameConstraints);
            }
        }
        self.budget -= 1;
        last.verify_signed_by(issuer.public_key())
            .map_err(|_| PathError::Signature)
    }
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Place {
    Authority,
    Intermediate,
}

fn in_time(certificate: &Certificate, now: UnixTime) -> Result<(), PathError> {
    let validity = certificate.validity();
    if now < validity.not_before {
        return Err(PathError::NotYetValid(validity.not_before));
    }
    if now > validity.not_after {
        return Err(PathError::Expired(validity.not_after));
    }
    Ok(())
}

/// Why there is no path. Later variants came nearer to one.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, thiserror::Error)]
pub enum PathError {
    /// Nobody of that name is trusted, and no intermediate leads to somebody who is.
    #[error("the certificate was issued by an authority that is not in the bundle of its trust domain")]
    UnknownAuthority,
    /// The name fits, the key does not.
    #[error("the signature of a certificate does not verify with its issuer's key")]
    Signature,
    /// Not a CA.
    #[error("an issuing certificate is not a CA")]
    NotCa,
    /// May not sign certificates.
    #[error("an issuing certificate's key usage lacks keyCertSign")]
    KeyUsage,
    /// Is for something else.
    #[error("an issuing certificate's extended key usage leaves out serverAuth or clientAuth")]
    ExtendedKeyUsage,
    /// Its SPIFFE ID has a path.
    #[error("an issuing certificate's SPIFFE ID has a path")]
    SigningPath,
    /// Something critical that is not evaluated here.
    #[error("an issuing certificate has an unknown critical extension")]
    UnknownCritical,
    /// More certificates than an issuer allows below itself.
    #[error("the chain is longer than an issuing certificate allows")]
    Length,
    /// A name that an issuer may not give.
    #[error("a name lies outside an issuing certificate's name constraints")]
    NameConstraints,
    /// Begins later.
    #[error("a certificate is not valid before {0}")]
    NotYetValid(UnixTime),
    /// Ended.
    #[error("a certificate expired at {0}")]
    Expired(UnixTime),
    /// The chain branches more than we follow.
    #[error("the chain needs more signature checks than are spent on one")]
    Budget,
}

impl PathError {
    /// The section of the standard that says so.
    #[must_use]
    pub fn section(&self) -> &'static str {
        match self {
            Self::UnknownAuthority | Self::Signature | Self::NotYetValid(_) | Self::Expired(_) => {
                "X509-SVID 5.1"
            }
            Self::NotCa => "X509-SVID 3.2, 4.1",
            Self::Length => "X509-SVID 4.1",
            Self::NameConstraints => "X509-SVID 4.2, 5.1",
            Self::KeyUsage => "X509-SVID 4.3",
            Self::ExtendedKeyUsage => "X509-SVID 4.4",
            Self::SigningPath => "X509-SVID 3.2",
            Self::UnknownCritical => "RFC 5280 4.2",
            Self::Budget => "project limit",
        }
    }
}
