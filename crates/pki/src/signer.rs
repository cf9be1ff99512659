//! The seam between what is signed and where the key lives.

use std::fmt;

use rustls_pki_types::alg_id;

use crate::key::{KeyKind, PublicKey};

/// How a message is hashed and signed. ECDSA names fix the hash, not the curve: P-256 with SHA-384 is legal in X.509.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum SignatureScheme {
    /// ECDSA over SHA-256 (JWS: ES256 on P-256).
    EcdsaSha256,
    /// ECDSA over SHA-384 (JWS: ES384 on P-384).
    EcdsaSha384,
    /// ECDSA over SHA-512 (JWS: ES512 on P-521).
    EcdsaSha512,
    /// RSASSA-PKCS1-v1_5 over SHA-256 (RS256).
    RsaPkcs1Sha256,
    /// RSASSA-PKCS1-v1_5 over SHA-384 (RS384).
    RsaPkcs1Sha384,
    /// RSASSA-PKCS1-v1_5 over SHA-512 (RS512).
    RsaPkcs1Sha512,
    /// RSASSA-PSS over SHA-256, salt as long as the hash (PS256).
    RsaPssSha256,
    /// RSASSA-PSS over SHA-384, salt as long as the hash (PS384).
    RsaPssSha384,
    /// RSASSA-PSS over SHA-512, salt as long as the hash (PS512).
    RsaPssSha512,
    /// Ed25519: checked where others use it, never made here.
    Ed25519,
}

impl SignatureScheme {
    /// What certificates and requests are signed with by a key of this kind.
    #[must_use]
    pub fn for_certificates(kind: KeyKind) -> Self {
        match kind {
            KeyKind::EcP256 => Self::EcdsaSha256,
            KeyKind::EcP384 => Self::EcdsaSha384,
            KeyKind::EcP521 => Self::EcdsaSha512,
            KeyKind::Rsa { .. } => Self::RsaPkcs1Sha256,
            KeyKind::Ed25519 => Self::Ed25519,
        }
    }

    /// From the content of a DER `AlgorithmIdentifier`. Each scheme has one accepted form, parameters included.
    pub(crate) fn from_algorithm_identifier(content: &[u8]) -> Option<Self> {
        [
            (alg_id::ECDSA_SHA256, Self::EcdsaSha256),
            (alg_id::ECDSA_SHA384, Self::EcdsaSha384),
            (alg_id::ECDSA_SHA512, Self::EcdsaSha512),
            (alg_id::RSA_PKCS1_SHA256, Self::RsaPkcs1Sha256),
            (alg_id::RSA_PKCS1_SHA384, Self::RsaPkcs1Sha384),
            (alg_id::RSA_PKCS1_SHA512, Self::RsaPkcs1Sha512),
            (alg_id::RSA_PSS_SHA256, Self::RsaPssSha256),
            (alg_id::RSA_PSS_SHA384, Self::RsaPssSha384),
            (alg_id::RSA_PSS_SHA512, Self::RsaPssSha512),
            (alg_id::ED25519, Self::Ed25519),
        ]
        .into_iter()
        .find_map(|(id, scheme)| (id.as_ref() == content).then_some(scheme))
    }
}

impl fmt::Display for SignatureScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EcdsaSha256 => "ecdsa-sha256",
            Self::EcdsaSha384 => "ecdsa-sha384",
            Self::EcdsaSha512 => "ecdsa-sha512",
            Self::RsaPkcs1Sha256 => "rsa-pkcs1-sha256",
            Self::RsaPkcs1Sha384 => "rsa-pkcs1-sha384",
            Self::RsaPkcs1Sha512 => "rsa-pkcs1-sha512",
            Self::RsaPssSha256 => "rsa-pss-sha256",
            Self::RsaPssSha384 => "rsa-pss-sha384",
            Self::RsaPssSha512 => "rsa-pss-sha512",
            Self::Ed25519 => "ed25519",
        })
    }
}

/// A private key that somebody else may hold: memory, a TPM, a KMS, a plugin.
///
/// It is synchronous and may block for as long as the holder takes, so daemons call it only on their signing pool.
/// One handle serves many threads at once.
pub trait Signer: Send + Sync {
    /// The public half. It never changes for one signer.
    fn public_key(&self) -> &PublicKey;

    /// Signs `message`, which is hashed inside. An ECDSA signature is the ASN.1 DER form (X.509's); JWS converts it.
    ///
    /// # Errors
    /// When the key cannot sign by that scheme, or its holder fails.
    fn sign(&self, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, SignerError>;

    /// Whether signatures come straight from the cryptographic library in this process. Those of any other holder (a TPM,
    /// a network, a plugin) are verified before they are used, which costs more than signing.
    fn is_in_process(&self) -> bool {
        false
    }
}

impl<S: Signer + ?Sized> Signer for std::sync::Arc<S> {
    fn public_key(&self) -> &PublicKey {
        (**self).public_key()
    }

    fn sign(&self, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, SignerError> {
        (**self).sign(scheme, message)
    }

    fn is_in_process(&self) -> bool {
        (**self).is_in_process()
    }
}

impl fmt::Debug for dyn Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.public_key().kind())
    }
}

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// The caller's fault: this key does not do that.
    #[error("a key of kind {kind} cannot sign by {scheme}")]
    Unsupported {
        /// The kind of the key that was asked.
        kind: KeyKind,
        /// What it was asked for.
        scheme: SignatureScheme,
    },
    /// The holder of the key failed; it may work again later.
    #[error("the holder of the key failed")]
    Holder(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The holder of the key does not know it (any more).
    #[error("the holder of the key does not have it")]
    Gone,
}

impl SignerError {
    /// A failure of the holder, with its reason.
    pub fn holder(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Holder(source.into())
    }

    /// Whether the same call may succeed later.
    #[must_use]
    pub fn may_retry(&self) -> bool {
        matches!(self, Self::Holder(_))
    }
}
