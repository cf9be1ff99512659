//! One number for «which entries, at which versions»: server and node compare it instead of their lists.
//!
//! The digest of a set is the sum, modulo 2^256, of one hash per (entry id, version). A sum knows no order and can be
//! kept up to date by adding and subtracting single items. It protects against drift, not against an enemy: both ends
//! of the connection that carries it are authenticated.
//!
//! The hash itself is given by the caller (SHA-256 of [`item_bytes`]): this crate holds no cryptography.

use crate::EntryId;

/// A sum of 256-bit hashes, modulo 2^256.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct SetDigest([u64; 4]);

impl SetDigest {
    /// The digest of the empty set.
    pub const EMPTY: Self = Self([0; 4]);

    /// Counts an item in, by its hash.
    pub fn add(&mut self, hash: &[u8; 32]) {
        let mut carry = 0u128;
        for (limb, word) in self.0.iter_mut().zip(limbs(hash)) {
            let sum = u128::from(*limb) + u128::from(word) + carry;
            *limb = sum as u64;
            carry = sum >> 64;
        }
    }

    /// Counts an item out again, by its hash.
    pub fn remove(&mut self, hash: &[u8; 32]) {
        let mut borrow = false;
        for (limb, word) in self.0.iter_mut().zip(limbs(hash)) {
            let (less, first) = limb.overflowing_sub(word);
            let (less, second) = less.overflowing_sub(u64::from(borrow));
            *limb = less;
            borrow = first || second;
        }
    }

    /// The digest as 32 bytes, least significant first.
    pub fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (chunk, limb) in bytes.chunks_exact_mut(8).zip(self.0) {
            chunk.copy_from_slice(&limb.to_le_bytes());
        }
        bytes
    }

    /// Reads what [`SetDigest::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        let mut digest = Self::EMPTY;
        digest.add(bytes);
        digest
    }
}

/// What is hashed for one item: the version, then the id. The version has a fixed length, so no two items share bytes.
pub fn item_bytes(id: &EntryId, version: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(8 + id.as_str().len());
    bytes.extend_from_slice(&version.to_be_bytes());
    bytes.extend_from_slice(id.as_str().as_bytes());
    bytes
}

fn limbs(hash: &[u8; 32]) -> impl Iterator<Item = u64> + '_ {
    hash.chunks_exact(8)
        .map(|chunk| u64::from_le_bytes(chunk.try_into().expect("chunks of eight bytes")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_digest_of_a_set_knows_no_order_and_forgets_what_left(
            hashes in prop::collection::vec(any::<[u8; 32]>(), 0..20),
            gone in any::<[u8; 32]>(),
        ) {
            let mut one = SetDigest::EMPTY;
            one.add(&gone);
            hashes.iter().for_each(|hash| one.add(hash));
            one.remove(&gone);
            let mut other = SetDigest::EMPTY;
            hashes.iter().rev().for_each(|hash| other.add(hash));
            prop_assert_eq!(one, other);
            prop_assert_eq!(SetDigest::from_bytes(&one.to_bytes()), one);
        }
    }
}
