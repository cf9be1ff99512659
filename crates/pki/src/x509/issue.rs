//! Making certificates: the profiles, and the check before anything leaves.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use muster_identity::{DnsName, Lifetime, SpiffeId, TrustDomain, UnixTime};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyUsagePurpose,
    SanType, SerialNumber,
};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

use super::authority::{AuthorityError, X509Authority};
use super::certificate::Certificate;
use super::certify::certify;
use super::name::{Name, NameAttribute, NameError};
use super::raw_name::RawNameError;
use super::serial::{NoRandomness, Serial};
use super::svid::{ParseSvidError, X509Svid};
use super::validity::Validity;
use super::verify::ChainError;
use crate::key::{KeyKind, PublicKey};
use crate::signer::{SignatureScheme, Signer, SignerError};

/// How far a certificate reaches back: clocks of verifiers may be that slow. A leaf of a few minutes reaches back less.
pub const BACKDATE: Duration = Duration::from_secs(60);
/// How far the shortest leaf reaches back, which is as far as SPIRE's do.
const SHORTEST_BACKDATE: Duration = Duration::from_secs(10);

/// An authority together with the key that signs for it.
#[derive(Clone)]
pub struct IssuingAuthority {
    authority: X509Authority,
    /// Certificates between this authority and the root, nearest first; they go into each SVID's chain.
    chain: Arc<[CertificateDer<'static>]>,
    chain_ends: UnixTime,
    pub(super) signer: Arc<dyn Signer>,
}

impl IssuingAuthority {
    /// Puts an authority and its key together. `upstream_chain` is what verifiers need between the SVID and the root,
    /// beginning with the authority's own certificate; for a self-signed authority it is empty.
    ///
    /// # Errors
    /// When the key is not the certificate's, or the chain does not begin with it or does not parse.
    pub fn new(
        authority: X509Authority,
        upstream_chain: Vec<CertificateDer<'static>>,
        signer: Arc<dyn Signer>,
    ) -> Result<Self, IssueError> {
        if signer.public_key() != authority.public_key() {
            return Err(IssueError::OtherKey);
        }
        if upstream_chain
            .first()
            .is_some_and(|first| first != authority.der())
        {
            return Err(IssueError::OtherChain);
        }
        let mut chain_ends = authority.validity().not_after;
        for (at, der) in upstream_chain.iter().enumerate() {
            let certificate =
                Certificate::parse(der).map_err(|source| ChainError::Certificate { at, source })?;
            chain_ends = chain_ends.min(certificate.validity().not_after);
        }
        Ok(Self {
            authority,
            chain: upstream_chain.into(),
            chain_ends,
            signer,
        })
    }

    /// The same, signing nothing that lives past `end`: where the root above ends before the chain does, which the chain can't tell.
    #[must_use]
    pub fn ending_by(mut self, end: UnixTime) -> Self {
        self.chain_ends = self.chain_ends.min(end);
        self
    }

    /// The authority, as bundles have it.
    #[must_use]
    pub fn authority(&self) -> &X509Authority {
        &self.authority
    }

    /// What is sent between a certificate that it signs and the root: for a self-signed authority nothing, else its own certificate first.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The last second at which anything that it signs can count.
    #[must_use]
    pub fn ends(&self) -> UnixTime {
        self.chain_ends
    }

    /// How what it signs names its key.
    pub(super) fn key_id(&self) -> Vec<u8> {
        let certificate = self.authority.certificate();
        match certificate.subject_key_id() {
            Some(id) => id.to_vec(),
            None => certificate.public_key().key_identifier().to_vec(),
        }
    }

    /// From when to when something counts that is signed at `now` and lives for `lifetime`: never before this authority or past its chain.
    pub(super) fn validity(&self, now: UnixTime, lifetime: Lifetime) -> Result<Validity, IssueError> {
        let own = self.authority.validity();
        if !own.contains(now) || self.chain_ends <= now {
            return Err(IssueError::AuthorityNotValid);
        }
        let chain = Validity {
            not_before: own.not_before,
            not_after: self.chain_ends,
        };
        Ok(leaf_validity(chain, now, lifetime))
    }
}

impl fmt::Debug for IssuingAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuingAuthority")
            .field("authority", &self.authority)
            .finish_non_exhaustive()
    }
}

/// What a self-signed authority is to be.
#[derive(Clone, Debug)]
pub struct RootProfile {
    /// The trust domain that it signs for.
    pub trust_domain: TrustDomain,
    /// Its name, to which a random serialNumber is added: verifiers confuse authorities that share a name.
    pub subject: Name,
    /// The moment of issue.
    pub now: UnixTime,
    /// How long it lives from then on.
    pub lifetime: Lifetime,
}

/// `C=US, O=SPIFFE`: what authorities are called where nothing else is configured.
#[must_use]
pub fn ca_subject() -> Name {
    named("SPIFFE")
}

/// What an X.509-SVID is to be. Everything in it comes from the server; of a request only the key is taken.
#[derive(Clone, Debug)]
pub struct X509SvidProfile {
    /// The identity.
    pub id: SpiffeId,
    /// The holder's key.
    pub public_key: PublicKey,
    /// DNS names, in order.
    pub dns_names: Vec<DnsName>,
    /// The distinguished name.
    pub subject: Subject,
    /// The moment of issue.
    pub now: UnixTime,
    /// How long it lives from then on, if its issuer does.
    pub lifetime: Lifetime,
}

/// The distinguished name of an X.509-SVID.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Subject {
    /// `C=US, O=SPIRE`, and the first DNS name as CN.
    #[default]
    Usual,
    /// What an administrator asked for.
    Named(Name),
}

/// Makes a self-signed authority. Blocks for as long as the signer does.
///
/// # Errors
/// When the signer fails, or what came out is not what was asked for.
pub fn issue_root(signer: Arc<dyn Signer>, profile: &RootProfile) -> Result<IssuingAuthority, IssueError> {
    let serial = Serial::random()?;
    let subject = profile
        .subject
        .clone()
        .with(NameAttribute::SerialNumber, &serial.to_string())
        .map_err(IssueError::Subject)?;
    let validity = Validity {
        not_before: profile.now.saturating_sub(BACKDATE),
        not_after: profile.now.saturating_add(profile.lifetime.duration()),
    };
    let mut params = parameters(&serial, &subject, validity, signer.public_key())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let uri = profile
        .trust_domain
        .id()
        .to_string()
        .try_into()
        .map_err(IssueError::Encode)?;
    params.subject_alt_names = vec![SanType::URI(uri)];
    let key = SigningAdapter::new(&*signer);
    let certificate = params.self_signed(&key);
    let certificate = certificate.map_err(|error| key.failure(error))?;
    let authority = X509Authority::from_der(certificate.der())?;
    let issued = authority.certificate();
    let as_asked = issued.serial() == &serial
        && issued.public_key() == signer.public_key()
        && issued.is_self_issued()
        && issued.validity() == validity
        && issued.uris() == [profile.trust_domain.id().to_string()];
    if !as_asked {
        return Err(IssueError::NotAsAsked);
    }
    issued
        .verify_signed_by(signer.public_key())
        .map_err(|_| IssueError::SignatureOfSigner)?;
    IssuingAuthority::new(authority, Vec::new(), signer)
}

/// Makes an X.509-SVID. Blocks for as long as the signer does.
///
/// It never outlives its issuer. Before it is returned it is read back and held to the rules that verifiers apply, and the
/// signature of a key that lives elsewhere is checked: a fault in the encoder or in a key's holder stops here.
///
/// # Errors
/// When the authority does not count now, the signer fails, or what came out is not what was asked for.
pub fn issue_x509_svid(issuer: &IssuingAuthority, profile: &X509SvidProfile) -> Result<X509Svid, IssueError> {
    let validity = issuer.validity(profile.now, profile.lifetime)?;
    let serial = Serial::random()?;
    let subject = match &profile.subject {
        Subject::Named(name) => name.clone(),
        Subject::Usual => usual_subject(&profile.dns_names),
    };
    let mut params = parameters(&serial, &subject, validity, &profile.public_key)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
        KeyUsagePurpose::KeyAgreement,
    ];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.use_authority_key_identifier_extension = true;
    let mut names = vec![SanType::URI(
        profile.id.to_string().try_into().map_err(IssueError::Encode)?,
    )];
    for name in &profile.dns_names {
        names.push(SanType::DnsName(
            name.as_str().try_into().map_err(IssueError::Encode)?,
        ));
    }
    params.subject_alt_names = names;

    let mut chain = vec![certify(&params, &profile.public_key, issuer, None)?];
    chain.extend(issuer.chain.iter().cloned());
    let svid = X509Svid::parse(chain)?;
    let leaf = svid.leaf();
    let as_asked = svid.id() == &profile.id
        && svid.public_key() == &profile.public_key
        && svid.serial() == &serial
        && leaf.validity() == validity
        && leaf
            .dns_names()
            .iter()
            .map(String::as_str)
            .eq(profile.dns_names.iter().map(DnsName::as_str))
        && leaf.authority_key_id() == Some(&issuer.key_id()[..])
        && leaf.issuer() == issuer.authority.certificate().subject();
    if !as_asked {
        return Err(IssueError::NotAsAsked);
    }
    if !issuer.signer.is_in_process() {
        leaf.verify_signed_by(issuer.authority.public_key())
            .map_err(|_| IssueError::SignatureOfSigner)?;
    }
    Ok(svid)
}

/// From when to when an X.509-SVID counts that is issued now: as long as it was asked for, and never longer than the chain above it does.
#[must_use]
pub fn leaf_validity(chain: Validity, now: UnixTime, lifetime: Lifetime) -> Validity {
    Validity {
        not_before: now.saturating_sub(backdate(lifetime)).max(chain.not_before),
        not_after: now.saturating_add(lifetime.duration()).min(chain.not_after),
    }
}

/// SPIRE's agents renew a leaf when half of what lies between its two ends is left: one of half a minute that reached back a whole one
/// would be due at each of their looks, twice a second.
fn backdate(lifetime: Lifetime) -> Duration {
    (lifetime.duration() / 6).clamp(SHORTEST_BACKDATE, BACKDATE)
}

/// What all our certificates have in common.
pub(super) fn parameters(
    serial: &Serial,
    subject: &Name,
    validity: Validity,
    public_key: &PublicKey,
) -> Result<CertificateParams, IssueError> {
    let moment =
        |at: UnixTime| OffsetDateTime::from_unix_timestamp(at.as_secs()).map_err(|_| IssueError::Time);
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from_slice(serial.as_be_bytes()));
    params.distinguished_name = subject.to_rcgen();
    params.not_before = moment(validity.not_before)?;
    params.not_after = moment(validity.not_after)?;
    params.key_identifier_method = KeyIdMethod::PreSpecified(public_key.key_identifier().to_vec());
    Ok(params)
}

fn usual_subject(dns_names: &[DnsName]) -> Name {
    let name = named("SPIRE");
    // A DNS name may be longer than a CN: the SAN has it either way.
    match dns_names.first() {
        Some(first) => name
            .clone()
            .with(NameAttribute::CommonName, first.as_str())
            .unwrap_or(name),
        None => name,
    }
}

fn named(organization: &str) -> Name {
    Name::empty()
        .with(NameAttribute::Country, "US")
        .and_then(|name| name.with(NameAttribute::Organization, organization))
        .unwrap_or_default()
}

/// A [`Signer`] in the shape that the encoder wants; it keeps the signer's own error, which the encoder would drop.
pub(super) struct SigningAdapter<'a> {
    signer: &'a dyn Signer,
    failed: RefCell<Option<SignerError>>,
}

impl<'a> SigningAdapter<'a> {
    pub(super) fn new(signer: &'a dyn Signer) -> Self {
        Self {
            signer,
            failed: RefCell::new(None),
        }
    }

    /// What really went wrong.
    pub(super) fn failure(&self, error: rcgen::Error) -> IssueError {
        self.failed
            .take()
            .map_or(IssueError::Encode(error), IssueError::Signer)
    }
}

impl rcgen::PublicKeyData for SigningAdapter<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.signer.public_key().key_bytes()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        algorithm(self.signer.public_key().kind())
    }
}

impl rcgen::SigningKey for SigningAdapter<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let scheme = SignatureScheme::for_certificates(self.signer.public_key().kind());
        self.signer.sign(scheme, message).map_err(|error| {
            self.failed.replace(Some(error));
            rcgen::Error::RemoteKeyError
        })
    }
}

pub(super) fn algorithm(kind: KeyKind) -> &'static rcgen::SignatureAlgorithm {
    match kind {
        KeyKind::EcP256 => &rcgen::PKCS_ECDSA_P256_SHA256,
        KeyKind::EcP384 => &rcgen::PKCS_ECDSA_P384_SHA384,
        KeyKind::EcP521 => &rcgen::PKCS_ECDSA_P521_SHA512,
        KeyKind::Rsa { .. } => &rcgen::PKCS_RSA_SHA256,
        KeyKind::Ed25519 => &rcgen::PKCS_ED25519,
    }
}

/// Why no certificate was made.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The key's holder failed.
    #[error("signing the certificate")]
    Signer(#[source] SignerError),
    /// The authority has not begun or has ended.
    #[error("the X.509 authority does not count at this moment")]
    AuthorityNotValid,
    /// There would be more authorities between a leaf and the root than verifiers follow.
    #[error("the authority stands too far below its root for another one below it")]
    TooDeep,
    /// The key belongs to another certificate.
    #[error("the key is not the one of the authority's certificate")]
    OtherKey,
    /// The chain belongs to another authority.
    #[error("the upstream chain does not begin with the authority's certificate")]
    OtherChain,
    /// A subject that is not written.
    #[error("the distinguished name is not usable")]
    Subject(#[source] NameError),
    /// A name of somebody else that is not taken over.
    #[error("the distinguished name is not usable")]
    RawName(#[from] RawNameError),
    /// A moment outside the calendar.
    #[error("a moment cannot be written into a certificate")]
    Time,
    /// No serial number.
    #[error("no serial number")]
    Serial(#[from] NoRandomness),
    /// The encoder failed.
    #[error("encoding the certificate")]
    Encode(#[source] rcgen::Error),
    /// What came out is no authority.
    #[error("the new authority breaks a rule")]
    Authority(#[from] AuthorityError),
    /// What came out is no SVID, or the upstream chain does not parse.
    #[error("the new certificate breaks a rule")]
    Svid(#[from] ParseSvidError),
    /// What came out is not what was asked for.
    #[error("the new certificate is not what was asked for")]
    NotAsAsked,
    /// The signer's signature does not verify.
    #[error("the signer's signature does not verify with its own key")]
    SignatureOfSigner,
}

impl From<ChainError> for IssueError {
    fn from(error: ChainError) -> Self {
        Self::Svid(error.into())
    }
}

impl IssueError {
    /// Whether the same call may succeed later.
    #[must_use]
    pub fn may_retry(&self) -> bool {
        matches!(self, Self::Signer(error) if error.may_retry())
    }
}
