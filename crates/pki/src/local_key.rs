//! Private keys that live in this process.

mod pem;

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    self, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING,
    EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair as _, RsaEncoding, RsaKeyPair,
};
use rustls_pki_types::alg_id;

use crate::der::{self, Reader};
use crate::key::{KeyKind, PublicKey, PublicKeyError};
use crate::secret::SecretBytes;
use crate::signer::{SignatureScheme, Signer, SignerError};

/// No PKCS#8 key that we accept is longer (RSA 4096: 2,375 bytes).
const MAX_PKCS8: usize = 4096;

/// The keys that are made here: what the standards' peers all understand.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum KeyAlgorithm {
    /// NIST P-256: small, quick, understood by all.
    #[default]
    EcP256,
    /// NIST P-384.
    EcP384,
    /// RSA with a modulus of 2048 bits, for peers that know nothing else.
    Rsa2048,
    /// RSA with a modulus of 4096 bits.
    Rsa4096,
}

impl KeyAlgorithm {
    /// All of them, in the order in which they are documented.
    pub const ALL: [Self; 4] = [Self::EcP256, Self::EcP384, Self::Rsa2048, Self::Rsa4096];

    /// The name that configuration and output use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::EcP256 => "ec-p256",
            Self::EcP384 => "ec-p384",
            Self::Rsa2048 => "rsa-2048",
            Self::Rsa4096 => "rsa-4096",
        }
    }
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for KeyAlgorithm {
    type Err = UnknownKeyAlgorithm;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.name() == text)
            .ok_or_else(|| UnknownKeyAlgorithm(text.chars().take(32).collect()))
    }
}

/// A name that is none of ours.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("unknown key type {0:?}: expected ec-p256, ec-p384, rsa-2048 or rsa-4096")]
pub struct UnknownKeyAlgorithm(String);

/// A private key in memory.
pub struct LocalKey {
    public: PublicKey,
    private: Private,
}

enum Private {
    Ec(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

impl LocalKey {
    /// Makes a new key. RSA takes a good part of a second, so a daemon does it on its signing pool.
    ///
    /// # Errors
    /// When the library fails, which means that it found no randomness.
    pub fn generate(algorithm: KeyAlgorithm) -> Result<Self, LocalKeyError> {
        match algorithm {
            KeyAlgorithm::EcP256 => Self::generate_ec(&ECDSA_P256_SHA256_ASN1_SIGNING, KeyKind::EcP256),
            KeyAlgorithm::EcP384 => Self::generate_ec(&ECDSA_P384_SHA384_ASN1_SIGNING, KeyKind::EcP384),
            KeyAlgorithm::Rsa2048 => Self::generate_rsa(KeySize::Rsa2048),
            KeyAlgorithm::Rsa4096 => Self::generate_rsa(KeySize::Rsa4096),
        }
    }

    fn generate_ec(algorithm: &'static EcdsaSigningAlgorithm, kind: KeyKind) -> Result<Self, LocalKeyError> {
        Self::from_ec(
            EcdsaKeyPair::generate(algorithm).map_err(|_| LocalKeyError::Generate)?,
            kind,
        )
    }

    fn generate_rsa(size: KeySize) -> Result<Self, LocalKeyError> {
        Self::from_rsa(RsaKeyPair::generate(size).map_err(|_| LocalKeyError::Generate)?)
    }

    /// Reads an unencrypted PKCS#8 key (RFC 5208) of any kind that we can sign with.
    ///
    /// # Errors
    /// When it is no such key, or its public half is one that the policy refuses.
    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, LocalKeyError> {
        if pkcs8.len() > MAX_PKCS8 {
            return Err(LocalKeyError::Malformed);
        }
        let algorithm = pkcs8_algorithm(pkcs8).ok_or(LocalKeyError::Malformed)?;
        let ec = |signing, kind| {
            EcdsaKeyPair::from_pkcs8(signing, pkcs8)
                .map_err(|_| LocalKeyError::Malformed)
                .and_then(|pair| Self::from_ec(pair, kind))
        };
        if algorithm == alg_id::ECDSA_P256.as_ref() {
            ec(&ECDSA_P256_SHA256_ASN1_SIGNING, KeyKind::EcP256)
        } else if algorithm == alg_id::ECDSA_P384.as_ref() {
            ec(&ECDSA_P384_SHA384_ASN1_SIGNING, KeyKind::EcP384)
        } else if algorithm == alg_id::ECDSA_P521.as_ref() {
            ec(&ECDSA_P521_SHA512_ASN1_SIGNING, KeyKind::EcP521)
        } else if algorithm == alg_id::RSA_ENCRYPTION.as_ref() {
            RsaKeyPair::from_pkcs8(pkcs8)
                .map_err(|_| LocalKeyError::Malformed)
                .and_then(Self::from_rsa)
        } else {
            Err(LocalKeyError::Policy(PublicKeyError::Algorithm))
        }
    }

    fn from_ec(pair: EcdsaKeyPair, kind: KeyKind) -> Result<Self, LocalKeyError> {
        let point = pair.public_key().as_ref();
        let (x, y) = point
            .get(1..)
            .map(|both| both.split_at(both.len() / 2))
            .unwrap_or_default();
        Ok(Self {
            public: PublicKey::from_ec_coordinates(kind, x, y)?,
            private: Private::Ec(pair),
        })
    }

    fn from_rsa(pair: RsaKeyPair) -> Result<Self, LocalKeyError> {
        let public = pair.public_key();
        let public = PublicKey::from_rsa_components(
            public.modulus().big_endian_without_leading_zero(),
            public.exponent().big_endian_without_leading_zero(),
        )?;
        Ok(Self {
            public,
            private: Private::Rsa(pair),
        })
    }

    /// The key as unencrypted PKCS#8: what the Workload API hands out (WA 5.2.1) and what is sealed on disk.
    ///
    /// # Errors
    /// When the library fails to write it.
    pub fn to_pkcs8(&self) -> Result<SecretBytes, LocalKeyError> {
        match &self.private {
            Private::Ec(pair) => {
                let document = pair.to_pkcs8v1().map_err(|_| LocalKeyError::Export)?;
                Ok(SecretBytes::new(document.as_ref().to_vec()))
            }
            Private::Rsa(pair) => {
                let document = pair.as_der().map_err(|_| LocalKeyError::Export)?;
                Ok(SecretBytes::new(document.as_ref().to_vec()))
            }
        }
    }
}

impl Signer for LocalKey {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn is_in_process(&self) -> bool {
        true
    }

    fn sign(&self, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, SignerError> {
        use SignatureScheme as S;
        let unsupported = SignerError::Unsupported {
            kind: self.public.kind(),
            scheme,
        };
        let failed = |_| SignerError::holder("the cryptographic library refused");
        match &self.private {
            Private::Ec(pair) => match (self.public.kind(), scheme) {
                (KeyKind::EcP256, S::EcdsaSha256)
                | (KeyKind::EcP384, S::EcdsaSha384)
                | (KeyKind::EcP521, S::EcdsaSha512) => pair
                    .sign(&SystemRandom::new(), message)
                    .map(|signature| signature.as_ref().to_vec())
                    .map_err(failed),
                _ => Err(unsupported),
            },
            Private::Rsa(pair) => {
                let encoding: &'static dyn RsaEncoding = match scheme {
                    S::RsaPkcs1Sha256 => &signature::RSA_PKCS1_SHA256,
                    S::RsaPkcs1Sha384 => &signature::RSA_PKCS1_SHA384,
                    S::RsaPkcs1Sha512 => &signature::RSA_PKCS1_SHA512,
                    S::RsaPssSha256 => &signature::RSA_PSS_SHA256,
                    S::RsaPssSha384 => &signature::RSA_PSS_SHA384,
                    S::RsaPssSha512 => &signature::RSA_PSS_SHA512,
                    _ => return Err(unsupported),
                };
                let mut out = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &SystemRandom::new(), message, &mut out)
                    .map_err(failed)?;
                Ok(out)
            }
        }
    }
}

impl fmt::Debug for LocalKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LocalKey({:?})", self.public)
    }
}

/// Why there is no key.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum LocalKeyError {
    /// No randomness, or the library's own fault.
    #[error("a key could not be generated")]
    Generate,
    /// Not PKCS#8, or damaged.
    #[error("the private key is not a valid unencrypted PKCS#8 key")]
    Malformed,
    /// A good key of a kind that is not used here.
    #[error("the private key is outside the policy")]
    Policy(#[from] PublicKeyError),
    /// No PEM with exactly one private key in it.
    #[error("expected PEM with one unencrypted private key (PKCS#8, PKCS#1 or SEC 1)")]
    Pem,
    /// The library would not write the key.
    #[error("the private key could not be written as PKCS#8")]
    Export,
}

/// The content of the AlgorithmIdentifier of a PKCS#8 key.
fn pkcs8_algorithm(pkcs8: &[u8]) -> Option<&[u8]> {
    let mut fields = Reader::new(Reader::new(pkcs8).read(der::SEQUENCE).ok()?);
    fields.read(der::INTEGER).ok()?;
    fields.read(der::SEQUENCE).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_each_kind_signs_and_comes_back_from_pkcs8() {
        for algorithm in [KeyAlgorithm::EcP256, KeyAlgorithm::EcP384, KeyAlgorithm::Rsa2048] {
            let key = LocalKey::generate(algorithm).expect("generated");
            let again = LocalKey::from_pkcs8(key.to_pkcs8().expect("written").expose_secret()).expect("read");
            assert_eq!(again.public_key(), key.public_key());
            let scheme = SignatureScheme::for_certificates(key.public_key().kind());
            let signature = again.sign(scheme, b"message").expect("signed");
            assert_eq!(
                key.public_key().verify(scheme, b"message", &signature),
                Ok(()),
                "{algorithm}"
            );
        }
    }

    #[test]
    fn rsa_signs_by_all_six_schemes_and_ec_by_its_own_only() {
        use SignatureScheme as S;
        let rsa = LocalKey::generate(KeyAlgorithm::Rsa2048).expect("generated");
        for scheme in [
            S::RsaPkcs1Sha256,
            S::RsaPkcs1Sha384,
            S::RsaPkcs1Sha512,
            S::RsaPssSha256,
            S::RsaPssSha384,
            S::RsaPssSha512,
        ] {
            let signature = rsa.sign(scheme, b"message").expect("signed");
            assert_eq!(
                rsa.public_key().verify(scheme, b"message", &signature),
                Ok(()),
                "{scheme}"
            );
        }
        assert!(matches!(
            rsa.sign(S::EcdsaSha256, b""),
            Err(SignerError::Unsupported { .. })
        ));
        let ec = LocalKey::generate(KeyAlgorithm::EcP256).expect("generated");
        assert!(matches!(
            ec.sign(S::EcdsaSha384, b""),
            Err(SignerError::Unsupported { .. })
        ));
    }

    #[test]
    fn what_is_no_key_is_refused_and_never_shown() {
        for bad in [
            &b""[..],
            b"\x30\x00",
            b"-----BEGIN PRIVATE KEY-----",
            &[0x30; 5000],
        ] {
            assert_eq!(LocalKey::from_pkcs8(bad).err(), Some(LocalKeyError::Malformed));
        }
        let key = LocalKey::generate(KeyAlgorithm::EcP256).expect("generated");
        assert!(format!("{key:?}").starts_with("LocalKey(PublicKey(ec-p256, "));
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for algorithm in KeyAlgorithm::ALL {
            assert_eq!(algorithm.name().parse(), Ok(algorithm));
        }
        assert!("EC-P256".parse::<KeyAlgorithm>().is_err());
    }
}
