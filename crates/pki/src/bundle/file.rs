//! Bundles from files and wire fields that hold certificates only.

use muster_identity::TrustDomain;
use rustls_pki_types::pem::{PemObject, SectionKind};

use super::{Bundle, DocumentError, ParsedBundle, document::MAX_DOCUMENT};
use crate::{
    der::{self, Reader},
    x509::{AuthorityError, X509Authority},
};

/// The most certificates that are read.
const MAX_CERTIFICATES: usize = 10_000;

/// Why bytes are no bundle.
#[derive(Debug, thiserror::Error)]
pub enum BundleFileError {
    /// More bytes than any bundle needs.
    #[error("the bundle has {0} bytes, more than 4 MiB")]
    TooLong(usize),
    /// No PEM.
    #[error("the bundle is not PEM (RFC 7468)")]
    Pem,
    /// A block that has no place in a bundle, above all a private key.
    #[error("block {index} of the PEM is not a certificate")]
    Block {
        /// Its place, from 0.
        index: usize,
    },
    /// No DER.
    #[error("certificate {index} is not DER, or something follows it")]
    Der {
        /// Its place, from 0.
        index: usize,
    },
    /// A certificate that is no authority's.
    #[error("certificate {index} is not that of an authority")]
    Authority {
        /// Its place, from 0.
        index: usize,
        /// Why.
        source: AuthorityError,
    },
    /// Nothing in it.
    #[error("the bundle has no certificate")]
    Empty,
    /// More certificates than any bundle needs.
    #[error("the bundle has more than 10000 certificates")]
    TooMany,
    /// A bundle document that cannot be read.
    #[error(transparent)]
    Document(#[from] DocumentError),
}

impl Bundle {
    /// Reads a bundle in whichever form it is: a bundle document, PEM, or DER. For files that people name.
    ///
    /// # Errors
    /// When it is none of them, or one that cannot be used.
    pub fn from_file_bytes(trust_domain: TrustDomain, bytes: &[u8]) -> Result<ParsedBundle, BundleFileError> {
        let certificates = |bundle| ParsedBundle {
            bundle,
            ignored: Vec::new(),
        };
        match bytes.trim_ascii_start().first() {
            Some(b'{' | b'[') => Ok(Self::from_document(trust_domain, bytes)?),
            _ if bytes.first() == Some(&der::SEQUENCE) && !bytes.is_ascii() => {
                Self::from_der_concat(trust_domain, bytes).map(certificates)
            }
            _ => Self::from_pem(trust_domain, bytes).map(certificates),
        }
    }

    /// Reads certificates in PEM. Text between the blocks is skipped; any other block is refused.
    ///
    /// # Errors
    /// When there is no certificate, or one that is no authority's.
    pub fn from_pem(trust_domain: TrustDomain, pem: &[u8]) -> Result<Self, BundleFileError> {
        if pem.len() > MAX_DOCUMENT {
            return Err(BundleFileError::TooLong(pem.len()));
        }
        let mut bundle = Self::new(trust_domain);
        for (index, block) in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem).enumerate() {
            let (kind, certificate) = block.map_err(|_| BundleFileError::Pem)?;
            if kind != SectionKind::Certificate {
                return Err(BundleFileError::Block { index });
            }
            bundle.add_certificate(index, &certificate)?;
        }
        bundle.not_empty()
    }

    /// Reads DER certificates that stand one after the other (Workload API 5.2.1).
    ///
    /// # Errors
    /// When there is no certificate, or one that is no authority's, or anything between or behind them.
    pub fn from_der_concat(trust_domain: TrustDomain, bytes: &[u8]) -> Result<Self, BundleFileError> {
        if bytes.len() > MAX_DOCUMENT {
            return Err(BundleFileError::TooLong(bytes.len()));
        }
        let mut bundle = Self::new(trust_domain);
        let (mut rest, mut index) = (bytes, 0);
        while !rest.is_empty() {
            let (certificate, _) = Reader::new(rest)
                .read_with_header(der::SEQUENCE)
                .map_err(|_| BundleFileError::Der { index })?;
            bundle.add_certificate(index, certificate)?;
            rest = &rest[certificate.len()..];
            index += 1;
        }
        bundle.not_empty()
    }

    fn add_certificate(&mut self, index: usize, certificate: &[u8]) -> Result<(), BundleFileError> {
        if index >= MAX_CERTIFICATES {
            return Err(BundleFileError::TooMany);
        }
        let authority = X509Authority::from_der(certificate)
            .map_err(|source| BundleFileError::Authority { index, source })?;
        self.put_x509_authority(authority);
        Ok(())
    }

    fn not_empty(self) -> Result<Self, BundleFileError> {
        if self.x509_authorities.is_empty() {
            Err(BundleFileError::Empty)
        } else {
            Ok(self)
        }
    }
}
