//! What can be wrong with a chain, one thing at a time.

use std::collections::BTreeMap;

use crate::{
    certificates::{Chain, Keys},
    der::{sequence, value},
    draft::{
        ALTERNATIVE_NAMES, AUTHORITY_KEY, BASIC_CONSTRAINTS, Draft, EXTENDED_KEY_USAGE, KEY_USAGE,
        NAME_CONSTRAINTS, SUBJECT_KEY, name, named, purposes, uris,
    },
};

/// 2026-06-01.
const AT: i64 = 1_780_272_000;

/// A chain before it is signed: leaf, perhaps a lower intermediate, intermediate; and the root.
pub(crate) struct Set {
    pub(crate) root: Draft,
    pub(crate) intermediate: Draft,
    lower: Option<Draft>,
    pub(crate) leaf: Draft,
    /// Whose key signs the leaf when it is not the right one.
    leaf_by_stranger: bool,
    arrange: fn(&mut Chain),
    at: i64,
}

impl Set {
    pub(crate) fn good(keys: &Keys) -> Self {
        Self {
            root: Draft::ca("a root", "a root", &keys.root, &keys.root),
            intermediate: Draft::ca("an intermediate", "a root", &keys.intermediate, &keys.root),
            lower: None,
            leaf: Draft::leaf("an intermediate", &keys.leaf, &keys.intermediate),
            leaf_by_stranger: false,
            arrange: |_| {},
            at: AT,
        }
    }

    pub(crate) fn chain(&self, keys: &Keys, what: &str) -> Chain {
        let mut leaf = self.leaf.clone();
        let mut ders = vec![];
        let mut signer = &keys.intermediate;
        if let Some(lower) = &self.lower {
            let mut lower = lower.clone();
            lower.spki = Draft::ca("", "", &keys.lower, &keys.lower).spki;
            lower.put(SUBJECT_KEY, false, subject_key(&keys.lower));
            lower.put(
                AUTHORITY_KEY,
                false,
                sequence(&[&value(0x80, &[&subject_key(&keys.intermediate)[2..]])]),
            );
            leaf.issuer.clone_from(&lower.subject);
            leaf.put(
                AUTHORITY_KEY,
                false,
                sequence(&[&value(0x80, &[&subject_key(&keys.lower)[2..]])]),
            );
            ders.push(lower.signed(&keys.intermediate));
            signer = &keys.lower;
        }
        let signer = if self.leaf_by_stranger {
            &keys.stranger
        } else {
            signer
        };
        ders.insert(0, leaf.signed(signer));
        ders.push(self.intermediate.signed(&keys.root));
        let root = self.root.signed(&keys.root);
        let mut chain = Chain {
            what: what.to_owned(),
            ders,
            roots: BTreeMap::from([("example.org".to_owned(), vec![root])]),
            at: self.at,
        };
        (self.arrange)(&mut chain);
        chain
    }
}

fn subject_key(key: &muster_pki::LocalKey) -> Vec<u8> {
    use muster_pki::Signer as _;
    value(4, &[&key.public_key().key_identifier()])
}

fn generalized(text: &str) -> Vec<u8> {
    value(0x18, &[text.as_bytes()])
}

fn utc(text: &str) -> Vec<u8> {
    value(0x17, &[text.as_bytes()])
}

/// An RSA key of so many bits that nobody holds: its modulus is no product of two primes that anybody knows.
fn rsa(bits: usize, exponent: &[u8], null: &[u8]) -> Vec<u8> {
    let mut modulus = vec![0; bits / 8 + 1];
    for (at, byte) in modulus.iter_mut().enumerate().skip(1) {
        *byte = u8::try_from((at * 151 + 89) % 251).unwrap() | 1;
    }
    modulus[1] |= 0x80;
    let key = sequence(&[&value(2, &[&modulus]), &value(2, &[exponent])]);
    let oid = [0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
    sequence(&[&sequence(&[&oid, null]), &value(3, &[&[0], &key])])
}

fn leaf_uri(set: &mut Set, uri: &str) {
    set.leaf.put(ALTERNATIVE_NAMES, false, uris(&[uri]));
}

fn constrain(set: &mut Set, list: u8, tag: u8, base: &[u8]) {
    let subtree = sequence(&[&value(tag, &[base])]);
    set.intermediate
        .put(NAME_CONSTRAINTS, true, sequence(&[&value(list, &[&subtree])]));
}

fn lower(set: &mut Set) {
    let mut lower = set.intermediate.clone();
    lower.subject = name("a lower intermediate");
    lower.issuer.clone_from(&set.intermediate.subject);
    set.lower = Some(lower);
}

type Deviation = (&'static str, fn(&mut Set));

/// One name each, and what it does. The first ones are no faults.
pub(crate) const DEVIATIONS: &[Deviation] = &[
    ("nothing", |_| {}),
    ("three certificates", lower),
    ("no intermediate needed", |set| {
        set.arrange = |chain| {
            let intermediate = chain.ders.pop().unwrap();
            chain.roots.insert("example.org".to_owned(), vec![intermediate]);
        };
    }),
    // Names of the leaf.
    ("leaf: no alternative names", |set| {
        set.leaf.remove(ALTERNATIVE_NAMES);
    }),
    ("leaf: two SPIFFE IDs", |set| {
        set.leaf.put(
            ALTERNATIVE_NAMES,
            false,
            uris(&["spiffe://example.org/w", "spiffe://example.org/v"]),
        );
    }),
    ("leaf: another URI beside", |set| {
        set.leaf.put(
            ALTERNATIVE_NAMES,
            false,
            uris(&["spiffe://example.org/w", "https://example.org"]),
        );
    }),
    ("leaf: DNS name beside", |set| {
        let names = [
            uris(&["spiffe://example.org/w"])[2..].to_vec(),
            value(0x82, &[b"w.example.org"]),
        ];
        set.leaf
            .put(ALTERNATIVE_NAMES, false, sequence(&[&names.concat()]));
    }),
    ("leaf: DNS name of strange characters", |set| {
        let names = [
            uris(&["spiffe://example.org/w"])[2..].to_vec(),
            value(0x82, &[b"a b\x00c"]),
        ];
        set.leaf
            .put(ALTERNATIVE_NAMES, false, sequence(&[&names.concat()]));
    }),
    ("leaf: mail address that is not ASCII", |set| {
        let names = [
            uris(&["spiffe://example.org/w"])[2..].to_vec(),
            value(0x81, &[b"\xff@a"]),
        ];
        set.leaf
            .put(ALTERNATIVE_NAMES, false, sequence(&[&names.concat()]));
    }),
    ("leaf: address of five bytes", |set| {
        let names = [
            uris(&["spiffe://example.org/w"])[2..].to_vec(),
            value(0x87, &[&[1, 2, 3, 4, 5]]),
        ];
        set.leaf
            .put(ALTERNATIVE_NAMES, false, sequence(&[&names.concat()]));
    }),
    ("leaf: empty alternative names", |set| {
        set.leaf.put(ALTERNATIVE_NAMES, false, sequence(&[]));
    }),
    ("leaf: alternative names and more behind them", |set| {
        set.leaf.extension(ALTERNATIVE_NAMES).value.extend([5, 0]);
    }),
    ("leaf: ID of another scheme", |set| {
        leaf_uri(set, "https://example.org/w");
    }),
    ("leaf: scheme in upper case", |set| {
        leaf_uri(set, "SPIFFE://example.org/w");
    }),
    ("leaf: trust domain in upper case", |set| {
        leaf_uri(set, "spiffe://Example.org/w");
    }),
    ("leaf: ID of the trust domain", |set| {
        leaf_uri(set, "spiffe://example.org");
    }),
    ("leaf: ID with a slash at its end", |set| {
        leaf_uri(set, "spiffe://example.org/w/");
    }),
    ("leaf: ID with an empty segment", |set| {
        leaf_uri(set, "spiffe://example.org//w");
    }),
    ("leaf: ID with a dot segment", |set| {
        leaf_uri(set, "spiffe://example.org/../w");
    }),
    ("leaf: ID with a percent sign", |set| {
        leaf_uri(set, "spiffe://example.org/%77");
    }),
    ("leaf: ID with a query", |set| {
        leaf_uri(set, "spiffe://example.org/w?a");
    }),
    ("leaf: ID with an empty query", |set| {
        leaf_uri(set, "spiffe://example.org/w?");
    }),
    ("leaf: ID with a fragment", |set| {
        leaf_uri(set, "spiffe://example.org/w#a");
    }),
    ("leaf: ID with an empty fragment", |set| {
        leaf_uri(set, "spiffe://example.org/w#");
    }),
    ("leaf: ID with a port", |set| {
        leaf_uri(set, "spiffe://example.org:1/w");
    }),
    ("leaf: ID with an empty port", |set| {
        leaf_uri(set, "spiffe://example.org:/w");
    }),
    ("leaf: ID with a user", |set| {
        leaf_uri(set, "spiffe://u@example.org/w");
    }),
    ("leaf: ID with an empty user", |set| {
        leaf_uri(set, "spiffe://@example.org/w");
    }),
    ("leaf: ID with a backslash", |set| {
        leaf_uri(set, "spiffe://example.org\\w");
    }),
    ("leaf: ID with a NUL", |set| {
        leaf_uri(set, "spiffe://example.org/w\0");
    }),
    ("leaf: ID beyond ASCII", |set| {
        leaf_uri(set, "spiffe://example.org/\u{e9}");
    }),
    ("leaf: ID that is too long", |set| {
        leaf_uri(set, &format!("spiffe://example.org/{}", "w".repeat(2048)));
    }),
    ("leaf: ID of another trust domain", |set| {
        leaf_uri(set, "spiffe://other.example/w");
    }),
    ("leaf: no subject, names not critical", |set| {
        set.leaf.subject = sequence(&[]);
    }),
    ("leaf: no subject, names critical", |set| {
        set.leaf.subject = sequence(&[]);
        set.leaf.extension(ALTERNATIVE_NAMES).critical = Some(vec![0xff]);
    }),
    // Usages of the leaf.
    ("leaf: no key usage", |set| set.leaf.remove(KEY_USAGE)),
    ("leaf: key usage not critical", |set| {
        set.leaf.extension(KEY_USAGE).critical = None;
    }),
    ("leaf: may sign certificates", |set| {
        set.leaf.put(KEY_USAGE, true, vec![3, 2, 2, 0x84]);
    }),
    ("leaf: may sign revocation lists", |set| {
        set.leaf.put(KEY_USAGE, true, vec![3, 2, 1, 0x82]);
    }),
    ("leaf: may not sign", |set| {
        set.leaf.put(KEY_USAGE, true, vec![3, 2, 5, 0x20]);
    }),
    ("leaf: key usage of nothing", |set| {
        set.leaf.put(KEY_USAGE, true, vec![3, 1, 0]);
    }),
    ("leaf: key usage of zeros", |set| {
        set.leaf.put(KEY_USAGE, true, vec![3, 2, 0, 0]);
    }),
    ("leaf: key usage with bits that do not count", |set| {
        set.leaf.put(KEY_USAGE, true, vec![3, 2, 7, 0x81]);
    }),
    ("leaf: key usage not in its shortest form", |set| {
        set.leaf.put(KEY_USAGE, true, vec![3, 2, 0, 0x80]);
    }),
    ("leaf: key usage of three bytes", |set| {
        set.leaf.put(KEY_USAGE, true, vec![3, 4, 0, 0x80, 0, 1]);
    }),
    ("leaf: no extended key usage", |set| {
        set.leaf.remove(EXTENDED_KEY_USAGE);
    }),
    ("leaf: for servers alone", |set| {
        set.leaf.put(EXTENDED_KEY_USAGE, false, purposes(&[1]));
    }),
    ("leaf: for clients alone", |set| {
        set.leaf.put(EXTENDED_KEY_USAGE, false, purposes(&[2]));
    }),
    ("leaf: for code alone", |set| {
        set.leaf.put(EXTENDED_KEY_USAGE, false, purposes(&[3]));
    }),
    ("leaf: for code too", |set| {
        set.leaf.put(EXTENDED_KEY_USAGE, false, purposes(&[1, 2, 3]));
    }),
    ("leaf: for any purpose", |set| {
        set.leaf.put(
            EXTENDED_KEY_USAGE,
            false,
            sequence(&[&[6, 4, 0x55, 0x1d, 0x25, 0]]),
        );
    }),
    ("leaf: for no purpose", |set| {
        set.leaf.put(EXTENDED_KEY_USAGE, false, sequence(&[]));
    }),
    ("leaf: no basic constraints", |set| {
        set.leaf.remove(BASIC_CONSTRAINTS);
    }),
    ("leaf: a CA", |set| {
        set.leaf.put(BASIC_CONSTRAINTS, true, sequence(&[&[1, 1, 0xff]]));
    }),
    ("leaf: no CA, in full", |set| {
        set.leaf.put(BASIC_CONSTRAINTS, true, sequence(&[&[1, 1, 0]]));
    }),
    ("leaf: a CA by a value that is neither", |set| {
        set.leaf.put(BASIC_CONSTRAINTS, true, sequence(&[&[1, 1, 1]]));
    }),
    ("leaf: no CA with a path length", |set| {
        set.leaf.put(BASIC_CONSTRAINTS, true, sequence(&[&[2, 1, 0]]));
    }),
    ("leaf: an unknown extension", |set| {
        set.leaf.put(&[0x2a, 3, 4], false, vec![5, 0]);
    }),
    ("leaf: an unknown critical extension", |set| {
        set.leaf.put(&[0x2a, 3, 4], true, vec![5, 0]);
    }),
    ("leaf: critical policies", |set| {
        set.leaf.put(
            &[0x55, 0x1d, 32],
            true,
            sequence(&[&sequence(&[&[6, 2, 0x2a, 3]])]),
        );
    }),
    ("leaf: policies that are malformed", |set| {
        set.leaf.put(&[0x55, 0x1d, 32], false, vec![5, 0]);
    }),
    ("leaf: an extension twice", |set| {
        let twice = set.leaf.extension(ALTERNATIVE_NAMES).clone();
        set.leaf.extensions.push(twice);
    }),
    ("leaf: name constraints", |set| {
        let subtree = sequence(&[&value(0x82, &[b"example.org"])]);
        set.leaf
            .put(NAME_CONSTRAINTS, true, sequence(&[&value(0xa0, &[&subtree])]));
    }),
    ("leaf: key id of another issuer", |set| {
        set.leaf
            .put(AUTHORITY_KEY, false, sequence(&[&value(0x80, &[&[7; 20]])]));
    }),
    ("leaf: no key id of its issuer", |set| {
        set.leaf.remove(AUTHORITY_KEY);
    }),
    ("leaf: critical key id of its issuer", |set| {
        set.leaf.extension(AUTHORITY_KEY).critical = Some(vec![0xff]);
    }),
    ("leaf: no key id", |set| set.leaf.remove(SUBJECT_KEY)),
    ("leaf: critical by another value", |set| {
        set.leaf.extension(KEY_USAGE).critical = Some(vec![1]);
    }),
    ("leaf: not critical, in full", |set| {
        set.leaf.extension(SUBJECT_KEY).critical = Some(vec![0]);
    }),
    // Form of the leaf.
    ("leaf: version 1", |set| set.leaf.version = vec![]),
    ("leaf: version 1, in full", |set| {
        set.leaf.version = vec![0xa0, 3, 2, 1, 0];
    }),
    ("leaf: version 2", |set| set.leaf.version = vec![0xa0, 3, 2, 1, 1]),
    ("leaf: version 4", |set| set.leaf.version = vec![0xa0, 3, 2, 1, 3]),
    ("leaf: serial number 0", |set| set.leaf.serial = vec![0]),
    ("leaf: negative serial number", |set| {
        set.leaf.serial = vec![0x80, 1];
    }),
    ("leaf: serial number of 20 bytes", |set| {
        set.leaf.serial = vec![0x7f; 20];
    }),
    ("leaf: serial number of 21 bytes", |set| {
        set.leaf.serial = vec![0x7f; 21];
    }),
    ("leaf: padded serial number", |set| set.leaf.serial = vec![0, 1]),
    ("leaf: empty serial number", |set| set.leaf.serial = vec![]),
    ("leaf: unique ids", |set| {
        set.leaf.unique_ids = vec![0x81, 2, 0, 1, 0x82, 2, 0, 1];
    }),
    ("leaf: something behind it", |set| set.leaf.trailing = vec![0]),
    // Its times.
    ("leaf: not yet", |set| set.leaf.validity[0] = utc("300101000000Z")),
    ("leaf: over", |set| set.leaf.validity[1] = utc("210101000000Z")),
    ("leaf: ends before it begins", |set| {
        set.leaf.validity = [utc("400101000000Z"), utc("200101000000Z")];
    }),
    ("leaf: begins now", |set| {
        set.leaf.validity[0] = utc("260601000000Z");
    }),
    ("leaf: begins in a second", |set| {
        set.leaf.validity[0] = utc("260601000001Z");
    }),
    ("leaf: ends now", |set| {
        set.leaf.validity[1] = utc("260601000000Z");
    }),
    ("leaf: ended a second ago", |set| {
        set.leaf.validity[1] = utc("260531235959Z");
    }),
    ("leaf: time without seconds", |set| {
        set.leaf.validity[0] = utc("2001010000Z");
    }),
    ("leaf: time with an offset", |set| {
        set.leaf.validity[0] = utc("200101000000+0100");
    }),
    ("leaf: year of four digits before 2050", |set| {
        set.leaf.validity[0] = generalized("20200101000000Z");
    }),
    ("leaf: time with a fraction", |set| {
        set.leaf.validity[1] = generalized("20900101000000.5Z");
    }),
    ("leaf: a day that does not exist", |set| {
        set.leaf.validity[0] = utc("210230000000Z");
    }),
    ("leaf: a second that does not exist", |set| {
        set.leaf.validity[0] = utc("200101000060Z");
    }),
    ("leaf: no end", |set| {
        set.leaf.validity[1] = generalized("99991231235959Z");
    }),
    ("leaf: the year 0", |set| {
        set.leaf.validity[0] = generalized("00000101000000Z");
    }),
    // Its key.
    ("leaf: RSA 2048", |set| {
        set.leaf.spki = rsa(2048, &[1, 0, 1], &[5, 0]);
    }),
    ("leaf: RSA 4096", |set| {
        set.leaf.spki = rsa(4096, &[1, 0, 1], &[5, 0]);
    }),
    ("leaf: RSA 1024", |set| {
        set.leaf.spki = rsa(1024, &[1, 0, 1], &[5, 0]);
    }),
    ("leaf: RSA 16384", |set| {
        set.leaf.spki = rsa(16384, &[1, 0, 1], &[5, 0]);
    }),
    ("leaf: RSA with the exponent 3", |set| {
        set.leaf.spki = rsa(2048, &[3], &[5, 0]);
    }),
    ("leaf: RSA without parameters", |set| {
        set.leaf.spki = rsa(2048, &[1, 0, 1], &[]);
    }),
    ("leaf: a point that is not on its curve", |set| {
        *set.leaf.spki.last_mut().unwrap() ^= 1;
    }),
    ("leaf: a compressed point", |set| {
        let x = set.leaf.spki.get(27..59).map(<[u8]>::to_vec).unwrap_or_default();
        let even = set.leaf.spki.last().map_or(2, |byte| 2 + (byte & 1));
        let curve = set.leaf.spki.get(2..23).map(<[u8]>::to_vec).unwrap_or_default();
        set.leaf.spki = sequence(&[&curve, &value(3, &[&[0, even], &x])]);
    }),
    ("leaf: Ed25519", |set| {
        let mut spki = vec![0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];
        spki.extend([
            0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07, 0x3a,
            0x0e, 0xe1, 0x72, 0xf3, 0xda, 0xa6, 0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a,
        ]);
        set.leaf.spki = spki;
    }),
    ("leaf: a key of an unknown kind", |set| {
        set.leaf.spki = sequence(&[&sequence(&[&[6, 2, 0x2a, 3]]), &value(3, &[&[0, 1]])]);
    }),
    // Its signature.
    ("leaf: signed by a stranger", |set| set.leaf_by_stranger = true),
    ("leaf: another algorithm inside", |set| {
        *set.leaf.algorithm[0].last_mut().unwrap() = 3;
    }),
    ("leaf: another algorithm outside", |set| {
        *set.leaf.algorithm[1].last_mut().unwrap() = 3;
    }),
    ("leaf: another algorithm", |set| {
        for algorithm in &mut set.leaf.algorithm {
            *algorithm.last_mut().unwrap() = 3;
        }
    }),
    ("leaf: algorithm with NULL", |set| {
        for algorithm in &mut set.leaf.algorithm {
            algorithm.extend([5, 0]);
        }
    }),
    ("leaf: signature with unused bits", |set| {
        set.leaf.bend = |signature| [&[1][..], &signature].concat();
    }),
    ("leaf: signature with something behind", |set| {
        set.leaf.bend = |signature| [&[0][..], &signature, &[0]].concat();
    }),
    ("leaf: no signature", |set| set.leaf.bend = |_| vec![0]),
    ("leaf: signature of zeros", |set| {
        set.leaf.bend = |_| vec![0, 0x30, 6, 2, 1, 0, 2, 1, 0];
    }),
    ("leaf: number of the signature padded", |set| {
        set.leaf.bend = |signature| {
            let mut bent = signature;
            bent.insert(4, 0);
            bent[3] += 1;
            bent[1] += 1;
            bent.insert(0, 0);
            bent
        };
    }),
    // Names in the path.
    ("leaf: issuer in another string type", |set| {
        set.leaf.issuer = named(0x13, b"an intermediate");
    }),
    ("leaf: issuer in other cases", |set| {
        set.leaf.issuer = name("AN Intermediate");
    }),
    ("leaf: issuer with more spaces", |set| {
        set.leaf.issuer = name(" an  intermediate ");
    }),
    ("leaf: another issuer", |set| set.leaf.issuer = name("somebody")),
    ("leaf: no issuer", |set| set.leaf.issuer = sequence(&[])),
    ("intermediate: no subject", |set| {
        set.intermediate.subject = sequence(&[]);
        set.leaf.issuer = sequence(&[]);
    }),
    ("leaf: subject that is not UTF-8", |set| {
        set.leaf.subject = named(0x0c, b"\xff");
    }),
    ("leaf: subject of strange characters", |set| {
        set.leaf.subject = named(0x13, b"a@b_*");
    }),
    ("leaf: subject in two-byte characters", |set| {
        set.leaf.subject = named(0x1e, b"\x00a");
    }),
    // The intermediate.
    ("intermediate: no basic constraints", |set| {
        set.intermediate.remove(BASIC_CONSTRAINTS);
    }),
    ("intermediate: no CA", |set| {
        set.intermediate.put(BASIC_CONSTRAINTS, true, sequence(&[]));
    }),
    ("intermediate: basic constraints not critical", |set| {
        set.intermediate.extension(BASIC_CONSTRAINTS).critical = None;
    }),
    ("intermediate: path length 0", |set| {
        set.intermediate
            .put(BASIC_CONSTRAINTS, true, sequence(&[&[1, 1, 0xff, 2, 1, 0]]));
    }),
    ("intermediate: negative path length", |set| {
        set.intermediate
            .put(BASIC_CONSTRAINTS, true, sequence(&[&[1, 1, 0xff, 2, 1, 0xff]]));
    }),
    ("intermediate: path length 0 and one below", |set| {
        lower(set);
        set.intermediate
            .put(BASIC_CONSTRAINTS, true, sequence(&[&[1, 1, 0xff, 2, 1, 0]]));
    }),
    ("intermediate: no key usage", |set| {
        set.intermediate.remove(KEY_USAGE);
    }),
    ("intermediate: may not sign certificates", |set| {
        set.intermediate.put(KEY_USAGE, true, vec![3, 2, 1, 0x82]);
    }),
    ("intermediate: key usage not critical", |set| {
        set.intermediate.extension(KEY_USAGE).critical = None;
    }),
    ("intermediate: for servers alone", |set| {
        set.intermediate.put(EXTENDED_KEY_USAGE, false, purposes(&[1]));
    }),
    ("intermediate: for code alone", |set| {
        set.intermediate.put(EXTENDED_KEY_USAGE, false, purposes(&[3]));
    }),
    ("intermediate: for servers and clients", |set| {
        set.intermediate.put(EXTENDED_KEY_USAGE, false, purposes(&[1, 2]));
    }),
    ("intermediate: an unknown critical extension", |set| {
        set.intermediate.put(&[0x2a, 3, 4], true, vec![5, 0]);
    }),
    ("intermediate: over", |set| {
        set.intermediate.validity[1] = utc("210101000000Z");
    }),
    ("intermediate: not yet", |set| {
        set.intermediate.validity[0] = utc("300101000000Z");
    }),
    ("intermediate: ID with a path", |set| {
        set.intermediate
            .put(ALTERNATIVE_NAMES, false, uris(&["spiffe://example.org/ca"]));
    }),
    ("intermediate: ID of another trust domain", |set| {
        set.intermediate
            .put(ALTERNATIVE_NAMES, false, uris(&["spiffe://other.example"]));
    }),
    ("intermediate: no alternative names", |set| {
        set.intermediate.remove(ALTERNATIVE_NAMES);
    }),
    ("intermediate: no key id", |set| {
        set.intermediate.remove(SUBJECT_KEY);
    }),
    ("intermediate: no key id of its issuer", |set| {
        set.intermediate.remove(AUTHORITY_KEY);
    }),
    ("intermediate: version 1", |set| set.intermediate.version = vec![]),
    ("intermediate: something behind it", |set| {
        set.intermediate.trailing = vec![0];
    }),
    ("intermediate: signature of zeros", |set| {
        set.intermediate.bend = |_| vec![0, 0x30, 6, 2, 1, 0, 2, 1, 0];
    }),
    // Constraints on names.
    ("constraint: URIs of the trust domain", |set| {
        constrain(set, 0xa0, 0x86, b"example.org");
    }),
    ("constraint: URIs of another host", |set| {
        constrain(set, 0xa0, 0x86, b"other.example");
    }),
    ("constraint: URIs below a domain", |set| {
        constrain(set, 0xa0, 0x86, b".example.org");
    }),
    ("constraint: no URIs of the trust domain", |set| {
        constrain(set, 0xa1, 0x86, b"example.org");
    }),
    ("constraint: no URIs of another host", |set| {
        constrain(set, 0xa1, 0x86, b"other.example");
    }),
    ("constraint: DNS names", |set| {
        constrain(set, 0xa0, 0x82, b"example.org");
    }),
    ("constraint: no DNS names below a domain", |set| {
        constrain(set, 0xa1, 0x82, b"example.org");
    }),
    ("constraint: addresses with a mask that is none", |set| {
        constrain(set, 0xa0, 0x87, &[10, 0, 0, 0, 255, 0, 255, 0]);
    }),
    ("constraint: the subject", |set| {
        constrain(set, 0xa0, 0xa4, &name("a workload"));
    }),
    ("constraint: not this subject", |set| {
        constrain(set, 0xa1, 0xa4, &name("a workload"));
    }),
    ("constraint: mail addresses", |set| {
        constrain(set, 0xa0, 0x81, b"example.org");
    }),
    ("constraint: not critical", |set| {
        constrain(set, 0xa0, 0x86, b"other.example");
        set.intermediate.extension(NAME_CONSTRAINTS).critical = None;
    }),
    ("constraint: none in it", |set| {
        set.intermediate.put(NAME_CONSTRAINTS, true, sequence(&[]));
    }),
    ("constraint: malformed", |set| {
        set.intermediate.put(NAME_CONSTRAINTS, true, vec![5, 0]);
    }),
    // The root.
    ("root: no CA", |set| {
        set.root.put(BASIC_CONSTRAINTS, true, sequence(&[]));
    }),
    ("root: no basic constraints", |set| {
        set.root.remove(BASIC_CONSTRAINTS);
    }),
    ("root: no key usage", |set| set.root.remove(KEY_USAGE)),
    ("root: may not sign certificates", |set| {
        set.root.put(KEY_USAGE, true, vec![3, 2, 1, 0x82]);
    }),
    ("root: over", |set| set.root.validity[1] = utc("210101000000Z")),
    ("root: not yet", |set| set.root.validity[0] = utc("300101000000Z")),
    ("root: path length 0", |set| {
        set.root
            .put(BASIC_CONSTRAINTS, true, sequence(&[&[1, 1, 0xff, 2, 1, 0]]));
    }),
    ("root: version 1", |set| {
        set.root.version = vec![];
        set.root.extensions.clear();
    }),
    ("root: ID with a path", |set| {
        set.root
            .put(ALTERNATIVE_NAMES, false, uris(&["spiffe://example.org/ca"]));
    }),
    ("root: an unknown critical extension", |set| {
        set.root.put(&[0x2a, 3, 4], true, vec![5, 0]);
    }),
    ("root: for code alone", |set| {
        set.root.put(EXTENDED_KEY_USAGE, false, purposes(&[3]));
    }),
    // The chain as a whole.
    ("chain: empty", |set| set.arrange = |chain| chain.ders.clear()),
    ("chain: the intermediate is missing", |set| {
        set.arrange = |chain| chain.ders.truncate(1);
    }),
    ("chain: in the other order", |set| {
        set.arrange = |chain| chain.ders.reverse();
    }),
    ("chain: the leaf twice", |set| {
        set.arrange = |chain| chain.ders.extend(chain.ders.first().cloned());
    }),
    ("chain: with the root", |set| {
        set.arrange = |chain| {
            let root = chain.roots.values().flatten().next().cloned();
            chain.ders.extend(root);
        };
    }),
    ("chain: nine certificates", |set| {
        set.arrange = |chain| {
            if let Some(last) = chain.ders.last().cloned() {
                chain.ders.resize(9, last);
            }
        };
    }),
    ("chain: an empty certificate", |set| {
        set.arrange = |chain| chain.ders.push(vec![]);
    }),
    ("bundle: empty", |set| {
        set.arrange = |chain| drop(chain.roots.insert("example.org".to_owned(), vec![]));
    }),
    ("bundle: of another trust domain", |set| {
        set.arrange = |chain| {
            let roots = chain.roots.remove("example.org").unwrap_or_default();
            chain.roots.insert("other.example".to_owned(), roots);
        };
    }),
    ("bundle: the leaf itself", |set| {
        set.arrange = |chain| {
            chain.ders.truncate(1);
            chain.roots.insert("example.org".to_owned(), chain.ders.clone());
        };
    }),
    ("bundle: the intermediate", |set| {
        set.arrange = |chain| {
            drop(
                chain
                    .roots
                    .insert("example.org".to_owned(), chain.ders[1..].to_vec()),
            );
        };
    }),
    ("a later moment", |set| set.at = 4_102_444_800),
    ("an earlier moment", |set| set.at = 946_684_800),
];
