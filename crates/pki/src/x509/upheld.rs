//! Authorities that somebody above signed, tried before anything is signed with them.

use std::sync::Arc;

use muster_identity::{Lifetime, TrustDomain, UnixTime};
use rustls_pki_types::CertificateDer;

use super::authority::{AuthorityError, X509Authority};
use super::certificate::Certificate;
use super::issue::{IssueError, IssuingAuthority, Subject, X509SvidProfile, issue_x509_svid};
use super::verify::{ChainError, VerifyError, X509BundleSource, verify_x509_svid};
use crate::signer::Signer;

/// An authority of ours that an upstream authority signed and that leads to one of the roots.
#[derive(Clone, Debug)]
pub struct UpheldAuthority {
    issuing: IssuingAuthority,
    root: X509Authority,
}

impl UpheldAuthority {
    /// Takes over what an upstream authority answered to a request by `signer`'s key: `chain` begins with the new authority; `roots` are what
    /// verifiers will have. A root at the chain's end is left out. An SVID is made with it and verified, and thrown away: an authority whose SVIDs nobody
    /// would accept is found out here, not by workloads. Blocks for as long as the signer does.
    ///
    /// # Errors
    /// When the answer is not for us, not an authority, or leads to none of the roots.
    pub fn accept(
        signer: Arc<dyn Signer>,
        trust_domain: &TrustDomain,
        chain: &[CertificateDer<'static>],
        roots: &[X509Authority],
        now: UnixTime,
    ) -> Result<Self, UpheldError> {
        let first = chain.first().ok_or(UpheldError::Empty)?;
        let authority = X509Authority::from_der(first)?;
        let id = trust_domain.id().to_string();
        if authority.certificate().uris() != [id] {
            return Err(UpheldError::OtherTrustDomain(trust_domain.clone()));
        }
        let mut sent = chain.to_vec();
        while let [_, .., last] = sent.as_slice()
            && is_root(last, roots)?
        {
            sent.pop();
        }
        let issuing = IssuingAuthority::new(authority, sent, signer)?;
        let profile = X509SvidProfile {
            id: format!("{}/spire/throwaway", trust_domain.id())
                .parse()
                .expect("a trust domain and a fixed path make an ID"),
            public_key: issuing.authority().public_key().clone(),
            dns_names: Vec::new(),
            subject: Subject::Usual,
            now,
            lifetime: Lifetime::from_secs(60).expect("it is not zero"),
        };
        let svid = issue_x509_svid(&issuing, &profile)?;
        let verified = verify_x509_svid(svid.chain(), &Roots(trust_domain, roots), now)?;
        let root = verified.authority().clone();
        Ok(Self {
            issuing: issuing.ending_by(root.validity().not_after),
            root,
        })
    }

    /// The authority with its key and chain.
    #[must_use]
    pub fn issuing(&self) -> &IssuingAuthority {
        &self.issuing
    }

    /// The root that it leads to.
    #[must_use]
    pub fn root(&self) -> &X509Authority {
        &self.root
    }
}

/// Whether it is a root that verifiers have, or signed by itself, as an upstream may send at the end.
fn is_root(der: &CertificateDer<'_>, roots: &[X509Authority]) -> Result<bool, ChainError> {
    if roots.iter().any(|root| root.der() == der) {
        return Ok(true);
    }
    let certificate = Certificate::parse(der).map_err(|source| ChainError::Certificate { at: 0, source })?;
    Ok(certificate.is_self_issued() && certificate.verify_signed_by(certificate.public_key()).is_ok())
}

struct Roots<'a>(&'a TrustDomain, &'a [X509Authority]);

impl X509BundleSource for Roots<'_> {
    fn x509_authorities(&self, trust_domain: &TrustDomain) -> Option<&[X509Authority]> {
        (trust_domain == self.0).then_some(self.1)
    }
}

/// Why an upstream authority's answer is not used.
#[derive(Debug, thiserror::Error)]
pub enum UpheldError {
    /// No certificate.
    #[error("the upstream authority answered without a certificate")]
    Empty,
    /// The certificate's one URI name is not that of the trust domain.
    #[error("the certificate is not for {0} and nothing else (X509-SVID 3.2)")]
    OtherTrustDomain(TrustDomain),
    /// The certificate is none of an authority.
    #[error("the certificate is not an authority's")]
    Authority(#[from] AuthorityError),
    /// It is for another key, or nothing could be signed with it.
    #[error("nothing can be signed with the certificate")]
    Issue(#[from] IssueError),
    /// A certificate of the chain.
    #[error("the chain is not usable")]
    Chain(#[from] ChainError),
    /// Nobody would accept what it signs.
    #[error("what it signs leads to none of the upstream roots")]
    Verify(#[from] VerifyError),
}

#[cfg(test)]
mod tests;
