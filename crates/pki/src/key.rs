//! Public keys that passed our policy.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest;
use aws_lc_rs::signature::{
    self, ParsedPublicKey, RsaParameters, RsaPssSaltLength, UnparsedPublicKey, VerificationAlgorithm,
};
use rustls_pki_types::alg_id;

use crate::der::{self, NotDer, Reader};
use crate::signer::SignatureScheme;

/// Key sizes of RSA that we touch. Below is weak; above, one check costs an attacker nothing and us milliseconds.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;
/// The one public exponent. Small ones have a history; large ones are a denial of service.
const RSA_EXPONENT: [u8; 3] = [1, 0, 1];
/// No acceptable SubjectPublicKeyInfo is longer (RSA 4096: 550 bytes).
const MAX_SPKI: usize = 1024;

/// What kind of key it is, as far as the policy tells kinds apart.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum KeyKind {
    /// NIST P-256.
    EcP256,
    /// NIST P-384.
    EcP384,
    /// NIST P-521.
    EcP521,
    /// RSA with the exponent 65537.
    Rsa {
        /// Length of the modulus: 2048 to 4096.
        bits: u16,
    },
    /// Ed25519.
    Ed25519,
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EcP256 => f.write_str("ec-p256"),
            Self::EcP384 => f.write_str("ec-p384"),
            Self::EcP521 => f.write_str("ec-p521"),
            Self::Rsa { bits } => write!(f, "rsa-{bits}"),
            Self::Ed25519 => f.write_str("ed25519"),
        }
    }
}

/// A public key: one canonical DER form, a kind and size that we accept, and a point that is on its curve.
/// What the policy refuses is refused before any arithmetic on it.
#[derive(Clone, Eq, Hash, PartialEq)]
pub struct PublicKey {
    kind: KeyKind,
    spki: Arc<[u8]>,
    /// Where the content of the BIT STRING begins; it reaches to the end.
    key_at: usize,
}

impl PublicKey {
    /// Reads a DER `SubjectPublicKeyInfo` (RFC 5280 4.1.2.7).
    ///
    /// # Errors
    /// When it is not the one DER form of a key, or a key that the policy refuses.
    pub fn from_spki_der(spki: &[u8]) -> Result<Self, PublicKeyError> {
        if spki.len() > MAX_SPKI {
            return Err(PublicKeyError::TooLong(spki.len()));
        }
        let (algorithm, key) = split_spki(spki)?;
        let kind = if algorithm == alg_id::ECDSA_P256.as_ref() {
            ec_point(KeyKind::EcP256, key)?
        } else if algorithm == alg_id::ECDSA_P384.as_ref() {
            ec_point(KeyKind::EcP384, key)?
        } else if algorithm == alg_id::ECDSA_P521.as_ref() {
            ec_point(KeyKind::EcP521, key)?
        } else if algorithm == alg_id::RSA_ENCRYPTION.as_ref() {
            rsa_key(key)?
        } else if algorithm == alg_id::ED25519.as_ref() {
            checked(&signature::ED25519, key)?;
            KeyKind::Ed25519
        } else {
            return Err(PublicKeyError::Algorithm);
        };
        Ok(Self {
            kind,
            spki: spki.into(),
            key_at: spki.len() - key.len(),
        })
    }

    /// A point on one of the NIST curves, `x` and `y` each exactly as long as the field (as JWK has them).
    ///
    /// # Errors
    /// When `kind` is no NIST curve, a coordinate has another length, or the point is not on the curve.
    pub fn from_ec_coordinates(kind: KeyKind, x: &[u8], y: &[u8]) -> Result<Self, PublicKeyError> {
        let curve = match kind {
            KeyKind::EcP256 => alg_id::ECDSA_P256,
            KeyKind::EcP384 => alg_id::ECDSA_P384,
            KeyKind::EcP521 => alg_id::ECDSA_P521,
            KeyKind::Rsa { .. } | KeyKind::Ed25519 => return Err(PublicKeyError::Algorithm),
        };
        let length = field_bytes(kind);
        if x.len() != length || y.len() != length {
            return Err(PublicKeyError::Point);
        }
        Self::from_parts(curve.as_ref(), &[&[4], x, y])
    }

    /// An RSA key from its modulus and exponent, big-endian.
    ///
    /// # Errors
    /// When the policy refuses it.
    pub fn from_rsa_components(modulus: &[u8], exponent: &[u8]) -> Result<Self, PublicKeyError> {
        if modulus.len() > MAX_SPKI || exponent.len() > MAX_SPKI {
            return Err(PublicKeyError::TooLong(modulus.len().max(exponent.len())));
        }
        let key = der::value(
            der::SEQUENCE,
            &[&der::positive_integer(modulus), &der::positive_integer(exponent)],
        );
        Self::from_parts(alg_id::RSA_ENCRYPTION.as_ref(), &[&key])
    }

    fn from_parts(algorithm: &[u8], key: &[&[u8]]) -> Result<Self, PublicKeyError> {
        let algorithm = der::value(der::SEQUENCE, &[algorithm]);
        let mut bits: Vec<&[u8]> = vec![&[0]];
        bits.extend_from_slice(key);
        Self::from_spki_der(&der::value(
            der::SEQUENCE,
            &[&algorithm, &der::value(der::BIT_STRING, &bits)],
        ))
    }

    /// What kind of key it is.
    #[must_use]
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The DER `SubjectPublicKeyInfo`.
    #[must_use]
    pub fn spki_der(&self) -> &[u8] {
        &self.spki
    }

    /// The content of its BIT STRING: the point, or the `RSAPublicKey`.
    #[must_use]
    pub fn key_bytes(&self) -> &[u8] {
        &self.spki[self.key_at..]
    }

    /// `x` and `y` of a NIST key, each as long as the field.
    #[must_use]
    pub fn ec_coordinates(&self) -> Option<(&[u8], &[u8])> {
        match self.kind {
            KeyKind::EcP256 | KeyKind::EcP384 | KeyKind::EcP521 => self
                .key_bytes()
                .get(1..)
                .map(|point| point.split_at(field_bytes(self.kind))),
            KeyKind::Rsa { .. } | KeyKind::Ed25519 => None,
        }
    }

    /// Modulus and exponent of an RSA key, big-endian, without leading zeros.
    #[must_use]
    pub fn rsa_components(&self) -> Option<(&[u8], &[u8])> {
        match self.kind {
            KeyKind::Rsa { .. } => split_rsa(self.key_bytes()).ok(),
            _ => None,
        }
    }

    /// The key identifier that our certificates carry: the first 20 bytes of SHA-256 over the key bits (RFC 7093 2 (1)).
    #[must_use]
    pub fn key_identifier(&self) -> [u8; 20] {
        let mut id = [0; 20];
        id.copy_from_slice(&digest::digest(&digest::SHA256, self.key_bytes()).as_ref()[..20]);
        id
    }

    /// Checks a signature over `message`. ECDSA signatures are in the ASN.1 DER form.
    ///
    /// # Errors
    /// When the signature is not this key's over this message, or the scheme does not go with the key.
    pub fn verify(
        &self,
        scheme: SignatureScheme,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), BadSignature> {
        let algorithm = verification(self.kind, scheme).ok_or(BadSignature)?;
        UnparsedPublicKey::new(algorithm, self.key_bytes())
            .verify(message, signature)
            .map_err(|_| BadSignature)
    }
}

impl PublicKey {
    /// Checks an RSASSA-PSS signature over SHA-256 whose salt is either as long as the hash or as long as the key allows: makers
    /// that are not told a length choose one of the two (RFC 8017 9.1.1).
    ///
    /// # Errors
    /// When the key is not RSA, or the signature is not this key's over this message.
    pub fn verify_pss_sha256(&self, message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
        if !matches!(self.kind, KeyKind::Rsa { .. }) {
            return Err(BadSignature);
        }
        [&signature::RSA_PSS_2048_8192_SHA256, &PSS_SHA256_LONGEST_SALT]
            .into_iter()
            .find(|algorithm| {
                UnparsedPublicKey::new(*algorithm, self.key_bytes())
                    .verify(message, signature)
                    .is_ok()
            })
            .map(drop)
            .ok_or(BadSignature)
    }
}

static PSS_SHA256_LONGEST_SALT: RsaParameters =
    signature::RSA_PSS_2048_8192_SHA256.with_pss_salt_length(RsaPssSaltLength::Max);

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({}, ", self.kind)?;
        self.key_identifier()[..4]
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("…)")
    }
}

/// Why a public key is not used.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PublicKeyError {
    /// More bytes than any accepted key has.
    #[error("a public key of {0} bytes is longer than any that is accepted")]
    TooLong(usize),
    /// Not the one DER form of a SubjectPublicKeyInfo.
    #[error("the public key is not a DER SubjectPublicKeyInfo")]
    Malformed,
    /// An algorithm or curve outside the policy.
    #[error("the key is not EC P-256, P-384 or P-521, RSA or Ed25519")]
    Algorithm,
    /// A modulus outside the policy.
    #[error("an RSA key of {0} bits is outside 2048 to 4096")]
    RsaSize(usize),
    /// An exponent outside the policy.
    #[error("the public exponent of the RSA key is not 65537")]
    RsaExponent,
    /// An even modulus: not the product of two primes that anybody could use.
    #[error("the modulus of the RSA key is even")]
    RsaModulus,
    /// Not a point on the curve in the uncompressed form.
    #[error("the EC key is not an uncompressed point on its curve")]
    Point,
}

/// The signature does not verify. Nothing more is said, to anybody.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the signature does not verify")]
pub struct BadSignature;

impl From<NotDer> for PublicKeyError {
    fn from(_: NotDer) -> Self {
        Self::Malformed
    }
}

fn split_spki(spki: &[u8]) -> Result<(&[u8], &[u8]), NotDer> {
    let mut outer = Reader::new(spki);
    let mut fields = Reader::new(outer.read(der::SEQUENCE)?);
    outer.finish()?;
    let algorithm = fields.read(der::SEQUENCE)?;
    let key = fields.read_bit_string()?;
    fields.finish()?;
    Ok((algorithm, key))
}

fn split_rsa(key: &[u8]) -> Result<(&[u8], &[u8]), NotDer> {
    let mut outer = Reader::new(key);
    let mut fields = Reader::new(outer.read(der::SEQUENCE)?);
    outer.finish()?;
    let modulus = fields.read_positive_integer()?;
    let exponent = fields.read_positive_integer()?;
    fields.finish()?;
    Ok((modulus, exponent))
}

fn rsa_key(key: &[u8]) -> Result<KeyKind, PublicKeyError> {
    let (modulus, exponent) = split_rsa(key)?;
    let leading = modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
    let bits = modulus.len() * 8 - leading;
    if !RSA_BITS.contains(&bits) {
        return Err(PublicKeyError::RsaSize(bits));
    }
    if exponent != RSA_EXPONENT {
        return Err(PublicKeyError::RsaExponent);
    }
    if modulus.last().is_none_or(|byte| byte % 2 == 0) {
        return Err(PublicKeyError::RsaModulus);
    }
    Ok(KeyKind::Rsa {
        bits: u16::try_from(bits).map_err(|_| PublicKeyError::RsaSize(bits))?,
    })
}

fn field_bytes(kind: KeyKind) -> usize {
    match kind {
        KeyKind::EcP384 => 48,
        KeyKind::EcP521 => 66,
        _ => 32,
    }
}

fn ec_point(kind: KeyKind, point: &[u8]) -> Result<KeyKind, PublicKeyError> {
    if point.len() != 1 + 2 * field_bytes(kind) || point.first() != Some(&4) {
        return Err(PublicKeyError::Point);
    }
    let algorithm =
        verification(kind, SignatureScheme::for_certificates(kind)).ok_or(PublicKeyError::Point)?;
    checked(algorithm, point)?;
    Ok(kind)
}

/// Lets the library read the key: that checks that a point is on its curve.
fn checked(algorithm: &'static dyn VerificationAlgorithm, key: &[u8]) -> Result<(), PublicKeyError> {
    ParsedPublicKey::new(algorithm, key)
        .map(drop)
        .map_err(|_| PublicKeyError::Point)
}

fn verification(kind: KeyKind, scheme: SignatureScheme) -> Option<&'static dyn VerificationAlgorithm> {
    use KeyKind::{EcP256, EcP384, EcP521, Ed25519, Rsa};
    use SignatureScheme as S;
    Some(match (kind, scheme) {
        (EcP256, S::EcdsaSha256) => &signature::ECDSA_P256_SHA256_ASN1,
        (EcP256, S::EcdsaSha384) => &signature::ECDSA_P256_SHA384_ASN1,
        (EcP384, S::EcdsaSha256) => &signature::ECDSA_P384_SHA256_ASN1,
        (EcP384, S::EcdsaSha384) => &signature::ECDSA_P384_SHA384_ASN1,
        (EcP521, S::EcdsaSha256) => &signature::ECDSA_P521_SHA256_ASN1,
        (EcP521, S::EcdsaSha384) => &signature::ECDSA_P521_SHA384_ASN1,
        (EcP521, S::EcdsaSha512) => &signature::ECDSA_P521_SHA512_ASN1,
        (Rsa { .. }, S::RsaPkcs1Sha256) => &signature::RSA_PKCS1_2048_8192_SHA256,
        (Rsa { .. }, S::RsaPkcs1Sha384) => &signature::RSA_PKCS1_2048_8192_SHA384,
        (Rsa { .. }, S::RsaPkcs1Sha512) => &signature::RSA_PKCS1_2048_8192_SHA512,
        (Rsa { .. }, S::RsaPssSha256) => &signature::RSA_PSS_2048_8192_SHA256,
        (Rsa { .. }, S::RsaPssSha384) => &signature::RSA_PSS_2048_8192_SHA384,
        (Rsa { .. }, S::RsaPssSha512) => &signature::RSA_PSS_2048_8192_SHA512,
        (Ed25519, S::Ed25519) => &signature::ED25519,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
