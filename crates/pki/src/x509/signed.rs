//! The outer form that certificates and requests share: what is signed, how, and the signature.

use crate::der::{self, NotDer, Reader};
use crate::signer::SignatureScheme;

/// `SEQUENCE { signed, AlgorithmIdentifier, BIT STRING }` (RFC 5280 4.1, RFC 2986 4.2), taken apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signed<'a> {
    /// The bytes that the signature covers, header included.
    pub(super) message: &'a [u8],
    /// Their content.
    pub(super) content: &'a [u8],
    /// The content of the outer AlgorithmIdentifier.
    pub(super) algorithm: &'a [u8],
    /// The signature itself.
    pub(super) signature: &'a [u8],
}

impl<'a> Signed<'a> {
    /// Nothing may follow the value.
    pub(super) fn parse(der: &'a [u8]) -> Result<Self, NotDer> {
        let mut outer = Reader::new(der);
        let mut fields = Reader::new(outer.read(der::SEQUENCE)?);
        outer.finish()?;
        let (message, content) = fields.read_with_header(der::SEQUENCE)?;
        let algorithm = fields.read(der::SEQUENCE)?;
        let signature = fields.read_bit_string()?;
        fields.finish()?;
        Ok(Self {
            message,
            content,
            algorithm,
            signature,
        })
    }

    /// The scheme, when it is one that we check.
    pub(super) fn scheme(&self) -> Option<SignatureScheme> {
        SignatureScheme::from_algorithm_identifier(self.algorithm)
    }
}
