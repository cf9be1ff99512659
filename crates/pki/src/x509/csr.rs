//! Requests for certificates. They give a key and the proof that the asker holds it; the rest is a wish.

use muster_identity::{DnsName, SpiffeId, TrustDomain};

use super::extensions::Extensions;
use super::issue::{IssueError, SigningAdapter};
use super::name::{Name, NameAttribute, NameError};
use super::raw_name::{RawName, RawNameError};
use super::signed::Signed;
use crate::der::{self, NotDer, Reader};
use crate::key::{PublicKey, PublicKeyError};
use crate::signer::Signer;

/// Longest request that is read.
pub const MAX_CSR: usize = 16 * 1024;

/// `1.2.840.113549.1.9.14`, extensionRequest (RFC 2985 5.4.2).
const EXTENSION_REQUEST: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 14];

/// A PKCS#10 request (RFC 2986) whose key passed the policy and whose signature proves that the asker holds it.
///
/// A node's request is taken for its key alone. Names and subject are there for an administrator who mints a certificate.
#[derive(Clone, Debug)]
pub struct Csr {
    public_key: PublicKey,
    subject: Vec<u8>,
    uris: Vec<String>,
    dns_names: Vec<String>,
    has_other_names: bool,
}

impl Csr {
    /// Reads and checks a DER request. The key is held to the policy before its signature is looked at, so that a huge one
    /// costs nothing.
    ///
    /// # Errors
    /// When it is no request, its key is refused, or its signature is not that key's.
    pub fn parse(der: &[u8]) -> Result<Self, CsrError> {
        if der.len() > MAX_CSR {
            return Err(CsrError::TooLong(der.len()));
        }
        let signed = Signed::parse(der)?;
        let mut fields = Reader::new(signed.content);
        if fields.read(der::INTEGER)? != [0] {
            return Err(CsrError::Malformed);
        }
        let (subject, _) = fields.read_with_header(der::SEQUENCE)?;
        let (spki, _) = fields.read_with_header(der::SEQUENCE)?;
        let public_key = PublicKey::from_spki_der(spki)?;
        let extensions = requested_extensions(fields.read_optional(0xa0)?.unwrap_or_default())?;
        fields.finish()?;
        let scheme = signed.scheme().ok_or(CsrError::Algorithm)?;
        public_key
            .verify(scheme, signed.message, signed.signature)
            .map_err(|_| CsrError::Signature)?;
        let names = extensions.alternative_names.unwrap_or_default();
        Ok(Self {
            public_key,
            subject: subject.to_vec(),
            has_other_names: names.others || !names.ips.is_empty(),
            uris: names.uris,
            dns_names: names.dns,
        })
    }

    /// The key, proven.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// The URI names that the asker wishes for.
    #[must_use]
    pub fn uris(&self) -> &[String] {
        &self.uris
    }

    /// The DNS names that the asker wishes for, unchecked.
    #[must_use]
    pub fn dns_names(&self) -> &[String] {
        &self.dns_names
    }

    /// Whether it wishes for names that no X.509-SVID of ours carries (addresses, mail, directory names).
    #[must_use]
    pub fn has_other_names(&self) -> bool {
        self.has_other_names
    }

    /// The subject that the asker wishes for, whatever is in it.
    ///
    /// # Errors
    /// When it is empty.
    pub fn raw_subject(&self) -> Result<RawName, RawNameError> {
        RawName::parse(&self.subject)
    }

    /// The subject that the asker wishes for, as far as our certificates carry such names.
    ///
    /// # Errors
    /// When it holds anything that our certificates do not carry.
    pub fn subject(&self) -> Result<Name, NameError> {
        Name::parse(&self.subject)
    }
}

/// Makes a request that is signed by `signer`, in the form that SPIRE's agents send: subject C=US, O=SPIRE, and the SPIFFE
/// ID, where the asker knows it, as its one URI name.
///
/// # Errors
/// When the signer fails.
pub fn create_csr(signer: &dyn Signer, id: Option<&SpiffeId>) -> Result<Vec<u8>, IssueError> {
    create_named_csr(signer, id, &[])
}

/// Makes a request for an authority of `trust_domain` under this name, to be sent to an upstream authority (SPIFFE ID without a path,
/// XS 3.2).
///
/// # Errors
/// When the signer fails.
pub fn create_authority_csr(
    signer: &dyn Signer,
    trust_domain: &TrustDomain,
    subject: &Name,
) -> Result<Vec<u8>, IssueError> {
    request(signer, subject, Some(&trust_domain.id()), &[])
}

/// [`create_csr`] with DNS names, for an administrator who mints: there, and only there, a request's names count.
///
/// # Errors
/// When the signer fails.
pub fn create_named_csr(
    signer: &dyn Signer,
    id: Option<&SpiffeId>,
    dns_names: &[DnsName],
) -> Result<Vec<u8>, IssueError> {
    let subject = Name::empty()
        .with(NameAttribute::Country, "US")
        .and_then(|name| name.with(NameAttribute::Organization, "SPIRE"))
        .map_err(IssueError::Subject)?;
    request(signer, &subject, id, dns_names)
}

fn request(
    signer: &dyn Signer,
    subject: &Name,
    id: Option<&SpiffeId>,
    dns_names: &[DnsName],
) -> Result<Vec<u8>, IssueError> {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = subject.to_rcgen();
    if let Some(id) = id {
        let uri = id.to_string().try_into().map_err(IssueError::Encode)?;
        params.subject_alt_names = vec![rcgen::SanType::URI(uri)];
    }
    for name in dns_names {
        let name = name.as_str().try_into().map_err(IssueError::Encode)?;
        params.subject_alt_names.push(rcgen::SanType::DnsName(name));
    }
    let key = SigningAdapter::new(signer);
    let request = params.serialize_request(&key);
    let request = request.map_err(|error| key.failure(error))?;
    Ok(request.der().to_vec())
}

fn requested_extensions(attributes: &[u8]) -> Result<Extensions, CsrError> {
    let mut list = Reader::new(attributes);
    let mut found = None;
    while !list.is_empty() {
        let mut attribute = Reader::new(list.read(der::SEQUENCE)?);
        let oid = attribute.read(der::OID)?;
        let values = attribute.read(der::SET)?;
        attribute.finish()?;
        if oid == EXTENSION_REQUEST {
            if found.is_some() {
                return Err(CsrError::Malformed);
            }
            found = Some(Extensions::parse(super::extensions::whole(
                values,
                der::SEQUENCE,
            )?)?);
        }
    }
    Ok(found.unwrap_or_default())
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CsrError {
    /// Over the bound.
    #[error("a certificate request of {0} bytes is longer than any that is accepted")]
    TooLong(usize),
    /// Not one DER request and nothing else.
    #[error("not one DER certificate request (RFC 2986 4)")]
    Malformed,
    /// A key outside the policy.
    #[error("the certificate request's key is refused")]
    PublicKey(#[from] PublicKeyError),
    /// Signed by a scheme that is not checked here.
    #[error("the certificate request is signed by an unknown algorithm")]
    Algorithm,
    /// The asker does not hold the key.
    #[error("the certificate request's signature does not verify with its own key")]
    Signature,
}

impl From<NotDer> for CsrError {
    fn from(_: NotDer) -> Self {
        Self::Malformed
    }
}
