use std::fmt;

use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};

use crate::{
    key::{BadSignature, KeyKind, PublicKey},
    signer::SignatureScheme,
};

/// A signature algorithm of JWT-SVID 2.1 (names of RFC 7518 3.1).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// ECDSA on P-521 with SHA-512.
    Es512,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PSS with SHA-384.
    Ps384,
    /// RSASSA-PSS with SHA-512.
    Ps512,
}

impl Algorithm {
    /// All nine.
    pub const ALL: [Self; 9] = [
        Self::Es256,
        Self::Es384,
        Self::Es512,
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
    ];

    /// The algorithm of that name, which is case-sensitive (RFC 7515 4.1.1).
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// The name in a header.
    pub fn name(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
        }
    }

    /// What we sign tokens with by a key of this kind; nothing for a kind that may not sign them.
    pub fn for_key(kind: KeyKind) -> Option<Self> {
        match kind {
            KeyKind::EcP256 => Some(Self::Es256),
            KeyKind::EcP384 => Some(Self::Es384),
            KeyKind::EcP521 => Some(Self::Es512),
            KeyKind::Rsa { .. } => Some(Self::Rs256),
            KeyKind::Ed25519 => None,
        }
    }

    /// Whether a key of this kind goes with the algorithm: unlike X.509, JOSE ties each curve to one hash
    /// (RFC 7518 3.4).
    pub fn fits(self, kind: KeyKind) -> bool {
        match self {
            Self::Es256 => kind == KeyKind::EcP256,
            Self::Es384 => kind == KeyKind::EcP384,
            Self::Es512 => kind == KeyKind::EcP521,
            _ => matches!(kind, KeyKind::Rsa { .. }),
        }
    }

    pub(super) fn scheme(self) -> SignatureScheme {
        match self {
            Self::Es256 => SignatureScheme::EcdsaSha256,
            Self::Es384 => SignatureScheme::EcdsaSha384,
            Self::Es512 => SignatureScheme::EcdsaSha512,
            Self::Rs256 => SignatureScheme::RsaPkcs1Sha256,
            Self::Rs384 => SignatureScheme::RsaPkcs1Sha384,
            Self::Rs512 => SignatureScheme::RsaPkcs1Sha512,
            Self::Ps256 => SignatureScheme::RsaPssSha256,
            Self::Ps384 => SignatureScheme::RsaPssSha384,
            Self::Ps512 => SignatureScheme::RsaPssSha512,
        }
    }

    /// How long r and s each are in a signature (RFC 7518 3.4); nothing for RSA.
    pub(super) fn coordinate_bytes(self) -> Option<usize> {
        match self {
            Self::Es256 => Some(32),
            Self::Es384 => Some(48),
            Self::Es512 => Some(66),
            _ => None,
        }
    }

    /// Checks a signature in JOSE's form.
    pub(super) fn verify(
        self,
        key: &PublicKey,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), BadSignature> {
        if !self.fits(key.kind()) {
            return Err(BadSignature);
        }
        UnparsedPublicKey::new(self.verification(), key.key_bytes())
            .verify(message, signature)
            .map_err(|_| BadSignature)
    }

    fn verification(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::Es256 => &signature::ECDSA_P256_SHA256_FIXED,
            Self::Es384 => &signature::ECDSA_P384_SHA384_FIXED,
            Self::Es512 => &signature::ECDSA_P521_SHA512_FIXED,
            Self::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
            Self::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
            Self::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
            Self::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
            Self::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
            Self::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
