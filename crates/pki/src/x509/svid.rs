//! An X.509-SVID as it is handed around: a chain whose leaf was checked.

use std::sync::Arc;

use muster_identity::{SpiffeId, UnixTime};
use rustls_pki_types::CertificateDer;

use super::authority::AuthorityId;
use super::certificate::Certificate;
use super::leaf::{self, LeafError};
use super::serial::Serial;
use super::verify::{ChainError, MAX_CHAIN_BYTES, parse_chain};
use crate::der::{self, Reader};
use crate::key::PublicKey;

/// A chain, leaf first and without the root, whose leaf obeys X509-SVID 2 to 4. That somebody vouches for it is another
/// question ([`verify_x509_svid`](super::verify_x509_svid)). Cheap to clone.
#[derive(Clone, Debug)]
pub struct X509Svid {
    id: SpiffeId,
    leaf: Arc<Certificate>,
    chain: Arc<[CertificateDer<'static>]>,
}

impl X509Svid {
    /// From certificates, leaf first.
    ///
    /// # Errors
    /// When they are no chain within our bounds, or the first is no X.509-SVID.
    pub fn parse(chain: Vec<CertificateDer<'static>>) -> Result<Self, ParseSvidError> {
        let (leaf, _) = parse_chain(&chain)?;
        let id = leaf::check(&leaf)?;
        Ok(Self {
            id,
            leaf: Arc::new(leaf),
            chain: chain.into(),
        })
    }

    /// From certificates that stand one after the other without anything between (WA 5.1).
    ///
    /// # Errors
    /// As [`X509Svid::parse`].
    pub fn from_der_concat(bytes: &[u8]) -> Result<Self, ParseSvidError> {
        if bytes.len() > MAX_CHAIN_BYTES {
            return Err(ChainError::TooLong {
                certificates: 0,
                bytes: bytes.len(),
            }
            .into());
        }
        let mut rest = Reader::new(bytes);
        let mut chain = Vec::new();
        while !rest.is_empty() {
            let (whole, _) = rest
                .read_with_header(der::SEQUENCE)
                .map_err(|_| ParseSvidError::NotCertificates)?;
            chain.push(CertificateDer::from(whole.to_vec()));
        }
        Self::parse(chain)
    }

    /// Who it is.
    #[must_use]
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// All certificates, leaf first.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// All certificates one after the other, as the Workload API has them (WA 5.1).
    #[must_use]
    pub fn chain_der_concat(&self) -> Vec<u8> {
        self.chain
            .iter()
            .flat_map(|certificate| certificate.iter().copied())
            .collect()
    }

    /// The authority above the chain, by the name that its last certificate has for it. Nothing is verified: it tells one's own SVIDs apart, not strangers'.
    #[must_use]
    pub fn authority_id(&self) -> Option<AuthorityId> {
        let above =
            |certificate: &Certificate| certificate.authority_key_id().and_then(AuthorityId::of_key_id);
        match self.chain.last() {
            Some(last) if self.chain.len() > 1 => above(&Certificate::parse(last).ok()?),
            _ => above(&self.leaf),
        }
    }

    /// The leaf, taken apart.
    #[must_use]
    pub fn leaf(&self) -> &Certificate {
        &self.leaf
    }

    /// The serial number of the leaf.
    #[must_use]
    pub fn serial(&self) -> &Serial {
        self.leaf.serial()
    }

    /// The first second at which the leaf counts.
    #[must_use]
    pub fn not_before(&self) -> UnixTime {
        self.leaf.validity().not_before
    }

    /// The last second at which the leaf counts. Our own leaves never outlive their chain.
    #[must_use]
    pub fn not_after(&self) -> UnixTime {
        self.leaf.validity().not_after
    }

    /// The key that it is about.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        self.leaf.public_key()
    }
}

impl PartialEq for X509Svid {
    fn eq(&self, other: &Self) -> bool {
        self.chain == other.chain
    }
}

impl Eq for X509Svid {}

/// Why bytes are no X.509-SVID.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ParseSvidError {
    /// Something between or after the certificates.
    #[error("not a row of DER certificates (Workload API 5.1)")]
    NotCertificates,
    /// Not a chain.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The leaf breaks a rule.
    #[error(transparent)]
    Leaf(#[from] LeafError),
}
