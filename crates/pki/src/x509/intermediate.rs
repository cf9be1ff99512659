//! Authorities below an authority: what a server signs for a downstream server.

use muster_identity::{Lifetime, TrustDomain, UnixTime};
use rcgen::{BasicConstraints, IsCa, KeyUsagePurpose, SanType};
use rustls_pki_types::CertificateDer;

use super::authority::X509Authority;
use super::certify::certify;
use super::issue::{IssueError, IssuingAuthority, parameters};
use super::name::Name;
use super::raw_name::RawName;
use super::second_opinion::MAX_BETWEEN;
use super::serial::Serial;
use crate::key::PublicKey;

/// What an authority below another is to be.
#[derive(Clone, Debug)]
pub struct IntermediateProfile {
    /// The trust domain that it signs for; its one SPIFFE ID has no path (XS 3.2).
    pub trust_domain: TrustDomain,
    /// Its key.
    pub public_key: PublicKey,
    /// Its name.
    pub subject: IntermediateSubject,
    /// The moment of issue.
    pub now: UnixTime,
    /// How long it lives from then on, if its issuer does.
    pub lifetime: Lifetime,
}

/// The name of an authority below another.
#[derive(Clone, Debug)]
pub enum IntermediateSubject {
    /// That of its issuer, with its depth as OU and a serialNumber of its own.
    BelowIssuer,
    /// Exactly this one.
    Named(RawName),
}

/// Makes an authority below `issuer`. What comes back is the new certificate and those between it and the root, which a verifier has. Blocks for as
/// long as the signer does.
///
/// # Errors
/// When the issuer does not count now, stands too deep for another authority and a leaf, its signer fails, or what came out is not what was asked for.
pub fn issue_intermediate(
    issuer: &IssuingAuthority,
    profile: &IntermediateProfile,
) -> Result<Vec<CertificateDer<'static>>, IssueError> {
    let validity = issuer.validity(profile.now, profile.lifetime)?;
    // What the new authority signs has it and those above it in its chain, and our own verifier would refuse a longer one.
    if issuer.chain().len() >= MAX_BETWEEN {
        return Err(IssueError::TooDeep);
    }
    let serial = Serial::random()?;
    let subject = match &profile.subject {
        IntermediateSubject::Named(name) => name.clone(),
        IntermediateSubject::BelowIssuer => {
            let parent = RawName::parse(issuer.authority().certificate().subject())?;
            // As SPIRE counts: the chain of a root is itself.
            parent.downstream(issuer.chain().len().max(1), &serial)?
        }
    };
    let mut params = parameters(&serial, &Name::empty(), validity, &profile.public_key)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    let uri = profile.trust_domain.id().to_string();
    params.subject_alt_names = vec![SanType::URI(uri.clone().try_into().map_err(IssueError::Encode)?)];
    let der = certify(&params, &profile.public_key, issuer, Some(subject.as_der()))?;

    let authority = X509Authority::from_der(&der)?;
    let issued = authority.certificate();
    let as_asked = issued.serial() == &serial
        && issued.public_key() == &profile.public_key
        && issued.subject() == subject.as_der()
        && issued.issuer() == issuer.authority().certificate().subject()
        && issued.validity() == validity
        && issued.uris() == [uri]
        && issued.authority_key_id() == Some(&issuer.key_id()[..]);
    if !as_asked {
        return Err(IssueError::NotAsAsked);
    }
    if !issuer.signer.is_in_process() {
        issued
            .verify_signed_by(issuer.authority().public_key())
            .map_err(|_| IssueError::SignatureOfSigner)?;
    }
    let mut chain = vec![der];
    chain.extend(issuer.chain().iter().cloned());
    Ok(chain)
}
