//! The Merkle tree of RFC 6962 section 2.1, kept as its right edge only.

use aws_lc_rs::digest::{Context, SHA256};

/// A SHA-256 hash of the tree.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// The root of the tree without leaves: the hash of nothing.
    pub fn empty() -> Self {
        Self::of(&[])
    }

    /// The hash of a leaf. The prefix keeps a leaf from ever being read as a node (second preimage).
    pub fn leaf(data: &[u8]) -> Self {
        Self::of(&[&[0], data])
    }

    /// The hash of an inner node.
    pub fn node(left: &Self, right: &Self) -> Self {
        Self::of(&[&[1], &left.0, &right.0])
    }

    /// Lower-case hexadecimal, as in records.
    pub fn to_hex(self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble & 15)]);
        // One is made and one compared for each record: this is the place where formatting would show.
        let mut text = String::with_capacity(64);
        for byte in self.0 {
            text.push(digit(byte >> 4));
            text.push(digit(byte));
        }
        text
    }

    fn of(parts: &[&[u8]]) -> Self {
        let mut context = Context::new(&SHA256);
        for part in parts {
            context.update(part);
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(context.finish().as_ref());
        Self(hash)
    }
}

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.to_hex())
    }
}

/// A growing tree: the roots of the perfect subtrees that make it up, largest first. Appending and asking for
/// the root both cost the logarithm of the size; what is needed for proofs is read from the log itself.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tree {
    size: u64,
    /// One root per one-bit of `size`, from the highest bit down.
    peaks: Vec<Hash>,
}

impl Tree {
    /// How many leaves there are.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The tree of `size` leaves with that right edge; nothing when no tree of this size has so many peaks, or no log comes to that size.
    pub(crate) fn from_edge(size: u64, peaks: Vec<Hash>) -> Option<Self> {
        const MOST: u64 = 1 << 56;
        (size <= MOST && peaks.len() == size.count_ones() as usize).then_some(Self { size, peaks })
    }

    /// The right edge.
    pub(crate) fn peaks(&self) -> &[Hash] {
        &self.peaks
    }

    /// Adds a leaf's hash.
    pub fn push(&mut self, leaf: Hash) {
        let mut right = leaf;
        // Each trailing one-bit of the size is a perfect subtree as large as what stands right of it.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                right = Hash::node(&left, &right);
            }
        }
        self.peaks.push(right);
        self.size += 1;
    }

    /// The tree's hash (MTH of RFC 6962).
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        match peaks.next() {
            None => Hash::empty(),
            Some(last) => peaks.fold(*last, |right, left| Hash::node(left, &right)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition of RFC 6962 2.1, word for word and slow.
    fn mth(leaves: &[Vec<u8>]) -> Hash {
        match leaves.len() {
            0 => Hash::empty(),
            1 => Hash::leaf(&leaves[0]),
            n => {
                let k = (n - 1).next_power_of_two() >> usize::from(!(n - 1).is_power_of_two());
                Hash::node(&mth(&leaves[..k]), &mth(&leaves[k..]))
            }
        }
    }

    #[test]
    fn roots_are_those_of_the_published_test_tree() {
        // The reference tree of the Certificate Transparency implementations.
        let leaves: [&[u8]; 8] = [
            b"",
            b"\x00",
            b"\x10",
            b"\x20\x21",
            b"\x30\x31",
            b"\x40\x41\x42\x43",
            b"\x50\x51\x52\x53\x54\x55\x56\x57",
            b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
        ];
        let mut tree = Tree::default();
        assert_eq!(
            tree.root().to_hex(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        let mut roots = Vec::new();
        for leaf in leaves {
            tree.push(Hash::leaf(leaf));
            roots.push(tree.root().to_hex());
        }
        assert_eq!(
            roots[0],
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
        );
        assert_eq!(
            roots[1],
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"
        );
        assert_eq!(
            roots[7],
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"
        );
    }

    #[test]
    fn the_edge_gives_the_root_of_the_definition_at_every_size() {
        let leaves: Vec<Vec<u8>> = (0..130_u8).map(|n| vec![n; usize::from(n % 7)]).collect();
        let mut tree = Tree::default();
        for n in 0..leaves.len() {
            assert_eq!(tree.root(), mth(&leaves[..n]), "size {n}");
            assert_eq!(tree.size(), n as u64);
            tree.push(Hash::leaf(&leaves[n]));
        }
    }
}
