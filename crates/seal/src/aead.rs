//! The form of a sealed value: version 1, salt, AES-256-GCM under a key of its own.
//!
//! Each value is encrypted with a key that is derived from the seal's key, 32 random bytes and the purpose
//! (HKDF-SHA-256). So a nonce never meets the same key twice, however many values one key file seals in its life,
//! and the fixed nonce needs no counter that a restored backup could set back.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, MAX_TAG_LEN, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, KeyType, Salt},
    rand,
};
use zeroize::Zeroizing;

use crate::{purpose::Purpose, seal::SealError};

pub(crate) const KEY_LEN: usize = 32;
const SALT_LEN: usize = 32;
/// Version and salt.
const HEADER_LEN: usize = 1 + SALT_LEN;
/// The first byte of what is sealed this way. Other seals (TPM, credential) will have other numbers.
const VERSION: u8 = 1;
/// Keys, tokens and caches are sealed, no archives.
const MAX_SECRET: usize = 64 << 20;
/// What separates these derived keys from any that might ever be derived from the same key file.
const LABEL: &[u8] = b"muster/seal/v1/aes-256-gcm";

/// The key of a seal.
pub(crate) struct SealingKey(Zeroizing<[u8; KEY_LEN]>);

impl SealingKey {
    pub(crate) fn new(key: Zeroizing<[u8; KEY_LEN]>) -> Self {
        Self(key)
    }

    pub(crate) fn random() -> Result<Self, SealError> {
        let mut key = Zeroizing::new([0; KEY_LEN]);
        rand::fill(key.as_mut()).map_err(|_| SealError::Library)?;
        Ok(Self(key))
    }

    pub(crate) fn bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    pub(crate) fn seal(&self, purpose: &Purpose, secret: &[u8]) -> Result<Vec<u8>, SealError> {
        if secret.len() > MAX_SECRET {
            return Err(SealError::TooLong(secret.len()));
        }
        let mut salt = [0; SALT_LEN];
        rand::fill(&mut salt).map_err(|_| SealError::Library)?;
        let mut sealed = Vec::with_capacity(HEADER_LEN + secret.len() + MAX_TAG_LEN);
        sealed.push(VERSION);
        sealed.extend_from_slice(&salt);
        // Encrypted in a buffer of its own that is zeroed: a growing Vec would leave plain copies behind.
        let mut body = Zeroizing::new(Vec::with_capacity(secret.len() + MAX_TAG_LEN));
        body.extend_from_slice(secret);
        self.derived(&salt, purpose)?
            .seal_in_place_append_tag(nonce(), Aad::from([VERSION]), &mut *body)
            .map_err(|_| SealError::Library)?;
        sealed.extend_from_slice(&body);
        Ok(sealed)
    }

    pub(crate) fn unseal(&self, purpose: &Purpose, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (version, rest) = sealed.split_first().ok_or(SealError::Malformed)?;
        if *version != VERSION {
            return Err(SealError::Form(*version));
        }
        let (salt, body) = rest.split_first_chunk::<SALT_LEN>().ok_or(SealError::Malformed)?;
        if body.len() > MAX_SECRET + MAX_TAG_LEN {
            return Err(SealError::TooLong(body.len()));
        }
        let mut body = Zeroizing::new(body.to_vec());
        let length = self
            .derived(salt, purpose)?
            .open_in_place(nonce(), Aad::from([VERSION]), &mut body)
            .map_err(|_| SealError::Closed)?
            .len();
        body.truncate(length);
        Ok(body)
    }

    fn derived(&self, salt: &[u8; SALT_LEN], purpose: &Purpose) -> Result<LessSafeKey, SealError> {
        let purpose = purpose.to_bytes();
        let mut key = Zeroizing::new([0; KEY_LEN]);
        Salt::new(HKDF_SHA256, salt)
            .extract(self.0.as_ref())
            .expand(&[LABEL, &purpose], KeyLength)
            .and_then(|okm| okm.fill(key.as_mut()))
            .map_err(|_| SealError::Library)?;
        UnboundKey::new(&AES_256_GCM, key.as_ref())
            .map(LessSafeKey::new)
            .map_err(|_| SealError::Library)
    }
}

/// Always the same: the key is used for one value only.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

struct KeyLength;

impl KeyType for KeyLength {
    fn len(&self) -> usize {
        KEY_LEN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_opens_for_the_same_purpose_and_key_only() {
        let (key, other) = (SealingKey::random().unwrap(), SealingKey::random().unwrap());
        let purpose = Purpose::new("test/a", "example.org");
        for secret in [&b""[..], b"x", &[7; 100_000]] {
            let sealed = key.seal(&purpose, secret).unwrap();
            assert_eq!(key.unseal(&purpose, &sealed).unwrap().as_slice(), secret);
            assert_eq!(other.unseal(&purpose, &sealed), Err(SealError::Closed));
            for wrong in [
                Purpose::new("test/b", "example.org"),
                Purpose::new("test/a", "example.net"),
            ] {
                assert_eq!(key.unseal(&wrong, &sealed), Err(SealError::Closed));
            }
        }
    }

    #[test]
    fn the_same_secret_never_looks_the_same() {
        let key = SealingKey::random().unwrap();
        let purpose = Purpose::new("test/a", "");
        assert_ne!(
            key.seal(&purpose, b"secret").unwrap(),
            key.seal(&purpose, b"secret").unwrap()
        );
    }

    #[test]
    fn every_changed_bit_and_every_cut_is_noticed() {
        let key = SealingKey::random().unwrap();
        let purpose = Purpose::new("test/a", "");
        let sealed = key.seal(&purpose, b"secret").unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(key.unseal(&purpose, &changed).is_err(), "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert!(key.unseal(&purpose, &sealed[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn a_value_sealed_by_the_first_version_still_opens() {
        // Key 32 times 0x2a, purpose "test/golden" of "example.org".
        let key = SealingKey::new(Zeroizing::new([0x2a; KEY_LEN]));
        let purpose = Purpose::new("test/golden", "example.org");
        let sealed = hex(GOLDEN);
        assert_eq!(
            key.unseal(&purpose, &sealed).unwrap().as_slice(),
            b"kept since version 1"
        );
    }

    const GOLDEN: &str = "01b9617afe4a54d5b18339c00ff1a0479a59e862dc0e1cb120c47d96644186047f1bc3\
        b5f8acf984036fee12b676e9acb308774ebef13687f9fbf83ee2db158d6192100960";

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
            .collect()
    }
}
