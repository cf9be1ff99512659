//! Chains with something wrong in them, signed again after it was made wrong: a broken signature would hide everything else.

use std::collections::BTreeMap;

use muster_pki::{KeyAlgorithm, LocalKey, x509::Certificate};

use crate::{
    der::Node,
    deviations::{DEVIATIONS, Set},
    draft::Draft,
    random::Random,
};

/// A chain, the authorities by trust domain, and the moment. `what` says what was done to it.
#[derive(Clone, Debug)]
pub(crate) struct Chain {
    pub(crate) what: String,
    pub(crate) ders: Vec<Vec<u8>>,
    pub(crate) roots: BTreeMap<String, Vec<Vec<u8>>>,
    pub(crate) at: i64,
}

impl Chain {
    /// Says in `what` when a certificate names another key id of its issuer than the issuer names of itself, or one of them
    /// names none.
    pub(crate) fn look_at_key_ids(&mut self) {
        let roots = self.roots.values().flatten();
        let parsed = self.ders.iter().chain(roots).map(|der| Certificate::parse(der));
        let Ok(parsed) = parsed.collect::<Result<Vec<_>, _>>() else {
            return;
        };
        let agree = parsed.windows(2).all(|pair| {
            pair[0].authority_key_id().is_some() && pair[0].authority_key_id() == pair[1].subject_key_id()
        });
        if !agree {
            self.what += " (key ids differ)";
        }
    }
}

/// The keys of everybody in a chain.
pub(crate) struct Keys {
    pub(crate) root: LocalKey,
    pub(crate) intermediate: LocalKey,
    pub(crate) lower: LocalKey,
    pub(crate) leaf: LocalKey,
    pub(crate) stranger: LocalKey,
}

impl Keys {
    pub(crate) fn generate() -> Self {
        let key = || LocalKey::generate(KeyAlgorithm::EcP256).unwrap();
        Self {
            root: key(),
            intermediate: key(),
            lower: key(),
            leaf: key(),
            stranger: key(),
        }
    }
}

/// Every deviation alone, then so many pairs.
pub(crate) fn deviating(keys: &Keys, pairs: u64, random: &mut Random) -> Vec<Chain> {
    let alone = DEVIATIONS.iter().map(|(what, deviate)| {
        let mut set = Set::good(keys);
        deviate(&mut set);
        set.chain(keys, what)
    });
    let mut all: Vec<_> = alone.collect();
    for _ in 0..pairs {
        let (first, second) = (random.of(DEVIATIONS), random.of(DEVIATIONS));
        let mut set = Set::good(keys);
        (first.1)(&mut set);
        (second.1)(&mut set);
        all.push(set.chain(keys, &format!("{}; {}", first.0, second.0)));
    }
    all
}

/// The content of one certificate bent as DER, and signed again by who should.
pub(crate) fn bent(keys: &Keys, count: u64, random: &mut Random) -> Vec<Chain> {
    let good = Set::good(keys);
    let bend = |draft: &Draft, random: &mut Random| {
        let mut tree = Node::parse(&draft.to_be_signed()).unwrap();
        let mut what = tree.mutate(random).to_owned();
        if random.below(3) == 0 {
            what += "; ";
            what += tree.mutate(random);
        }
        (tree.write(), what)
    };
    let chains = (0..count).map(|_| {
        let mut chain = good.chain(keys, "");
        let (place, what) = match random.below(10) {
            0..=5 => {
                let (content, what) = bend(&good.leaf, random);
                chain.ders[0] = good.leaf.around(&content, &keys.intermediate);
                ("leaf", what)
            }
            6..=8 => {
                let (content, what) = bend(&good.intermediate, random);
                chain.ders[1] = good.intermediate.around(&content, &keys.root);
                ("intermediate", what)
            }
            _ => {
                let (content, what) = bend(&good.root, random);
                let root = good.root.around(&content, &keys.root);
                chain.roots.insert("example.org".to_owned(), vec![root]);
                ("root", what)
            }
        };
        chain.what = format!("{place} bent: {what}");
        chain
    });
    chains.collect()
}

/// Bytes changed anywhere in what is sent, not signed again.
pub(crate) fn damaged(keys: &Keys, count: u64, random: &mut Random) -> Vec<Chain> {
    let good = Set::good(keys).chain(keys, "");
    let chains = (0..count).map(|_| {
        let mut chain = good.clone();
        let at = random.below(chain.ders.len());
        random.mutate(&mut chain.ders[at]);
        chain.what = format!("certificate {at} damaged");
        chain
    });
    chains.collect()
}
