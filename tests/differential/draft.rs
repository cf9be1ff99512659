//! A certificate before it is signed, each part free to be wrong.

use muster_pki::{LocalKey, SignatureScheme, Signer as _};

use crate::der::{sequence, value};

pub(crate) const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 19];
pub(crate) const KEY_USAGE: &[u8] = &[0x55, 0x1d, 15];
pub(crate) const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 37];
pub(crate) const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 17];
pub(crate) const NAME_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 30];
pub(crate) const SUBJECT_KEY: &[u8] = &[0x55, 0x1d, 14];
pub(crate) const AUTHORITY_KEY: &[u8] = &[0x55, 0x1d, 35];

/// ecdsa-with-SHA256.
pub(crate) const ECDSA_SHA256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];

#[derive(Clone)]
pub(crate) struct Draft {
    /// `[0] { version }`, or nothing.
    pub(crate) version: Vec<u8>,
    /// Content of the INTEGER.
    pub(crate) serial: Vec<u8>,
    /// Content of the AlgorithmIdentifier, inside and outside.
    pub(crate) algorithm: [Vec<u8>; 2],
    pub(crate) issuer: Vec<u8>,
    /// Two whole values.
    pub(crate) validity: [Vec<u8>; 2],
    pub(crate) subject: Vec<u8>,
    pub(crate) spki: Vec<u8>,
    /// Whole values between key and extensions.
    pub(crate) unique_ids: Vec<u8>,
    pub(crate) extensions: Vec<Extension>,
    /// From the signature to the content of its BIT STRING.
    pub(crate) bend: fn(Vec<u8>) -> Vec<u8>,
    /// What follows the certificate.
    pub(crate) trailing: Vec<u8>,
}

#[derive(Clone)]
pub(crate) struct Extension {
    pub(crate) oid: Vec<u8>,
    /// Content of the BOOLEAN; none when it is left out.
    pub(crate) critical: Option<Vec<u8>>,
    pub(crate) value: Vec<u8>,
}

impl Draft {
    pub(crate) fn ca(subject: &str, issuer: &str, key: &LocalKey, issued_by: &LocalKey) -> Self {
        let mut draft = Self::blank(subject, issuer, key);
        draft.put(BASIC_CONSTRAINTS, true, sequence(&[&[1, 1, 0xff]]));
        draft.put(KEY_USAGE, true, vec![3, 2, 1, 0x06]);
        draft.put(ALTERNATIVE_NAMES, false, uris(&["spiffe://example.org"]));
        draft.put(
            SUBJECT_KEY,
            false,
            value(4, &[&key.public_key().key_identifier()]),
        );
        draft.put(AUTHORITY_KEY, false, authority_key(issued_by));
        draft
    }

    pub(crate) fn leaf(issuer: &str, key: &LocalKey, issued_by: &LocalKey) -> Self {
        let mut draft = Self::blank("a workload", issuer, key);
        draft.put(KEY_USAGE, true, vec![3, 2, 3, 0xa8]);
        draft.put(EXTENDED_KEY_USAGE, false, purposes(&[1, 2]));
        draft.put(BASIC_CONSTRAINTS, true, sequence(&[]));
        draft.put(
            SUBJECT_KEY,
            false,
            value(4, &[&key.public_key().key_identifier()]),
        );
        draft.put(AUTHORITY_KEY, false, authority_key(issued_by));
        draft.put(ALTERNATIVE_NAMES, false, uris(&["spiffe://example.org/w"]));
        draft
    }

    fn blank(subject: &str, issuer: &str, key: &LocalKey) -> Self {
        Self {
            version: vec![0xa0, 3, 2, 1, 2],
            serial: vec![0x11, 0x22, 0x33, 0x44],
            algorithm: [ECDSA_SHA256.to_vec(), ECDSA_SHA256.to_vec()],
            issuer: name(issuer),
            validity: [
                value(0x17, &[b"200101000000Z"]),
                value(0x18, &[b"20900101000000Z"]),
            ],
            subject: name(subject),
            spki: key.public_key().spki_der().to_vec(),
            unique_ids: vec![],
            extensions: vec![],
            bend: |signature| [&[0][..], &signature].concat(),
            trailing: vec![],
        }
    }

    /// Puts an extension, in place of the one that is there.
    pub(crate) fn put(&mut self, oid: &[u8], critical: bool, value: Vec<u8>) {
        let extension = Extension {
            oid: oid.to_vec(),
            critical: critical.then(|| vec![0xff]),
            value,
        };
        match self.extensions.iter_mut().find(|present| present.oid == oid) {
            Some(present) => *present = extension,
            None => self.extensions.push(extension),
        }
    }

    pub(crate) fn remove(&mut self, oid: &[u8]) {
        self.extensions.retain(|present| present.oid != oid);
    }

    /// The extension, or one that is empty when an earlier deviation took it away.
    pub(crate) fn extension(&mut self, oid: &[u8]) -> &mut Extension {
        if !self.extensions.iter().any(|present| present.oid == oid) {
            self.put(oid, false, sequence(&[]));
        }
        self.extensions
            .iter_mut()
            .find(|present| present.oid == oid)
            .unwrap()
    }

    /// What is signed.
    pub(crate) fn to_be_signed(&self) -> Vec<u8> {
        let extensions: Vec<u8> = self
            .extensions
            .iter()
            .flat_map(|extension| {
                let critical = extension.critical.iter().map(|content| value(1, &[content]));
                let critical: Vec<u8> = critical.flatten().collect();
                sequence(&[
                    &value(6, &[&extension.oid]),
                    &critical,
                    &value(4, &[&extension.value]),
                ])
            })
            .collect();
        let extensions = if extensions.is_empty() {
            vec![]
        } else {
            value(0xa3, &[&sequence(&[&extensions])])
        };
        sequence(&[
            &self.version,
            &value(2, &[&self.serial]),
            &sequence(&[&self.algorithm[0]]),
            &self.issuer,
            &sequence(&[&self.validity[0], &self.validity[1]]),
            &self.subject,
            &self.spki,
            &self.unique_ids,
            &extensions,
        ])
    }

    /// The certificate.
    pub(crate) fn signed(&self, by: &LocalKey) -> Vec<u8> {
        self.around(&self.to_be_signed(), by)
    }

    /// The certificate around something else that is signed in place of this draft's own content.
    pub(crate) fn around(&self, to_be_signed: &[u8], by: &LocalKey) -> Vec<u8> {
        let signature = by.sign(SignatureScheme::EcdsaSha256, to_be_signed).unwrap();
        let mut der = sequence(&[
            to_be_signed,
            &sequence(&[&self.algorithm[1]]),
            &value(3, &[&(self.bend)(signature)]),
        ]);
        der.extend(&self.trailing);
        der
    }
}

/// `CN=…`.
pub(crate) fn name(common: &str) -> Vec<u8> {
    named(0x0c, common.as_bytes())
}

/// `CN=…` with a string of that type.
pub(crate) fn named(tag: u8, common: &[u8]) -> Vec<u8> {
    let attribute = sequence(&[&[6, 3, 0x55, 4, 3], &value(tag, &[common])]);
    sequence(&[&value(0x31, &[&attribute])])
}

/// A SubjectAltName of URIs.
pub(crate) fn uris(list: &[&str]) -> Vec<u8> {
    let names: Vec<u8> = list
        .iter()
        .flat_map(|uri| value(0x86, &[uri.as_bytes()]))
        .collect();
    sequence(&[&names])
}

/// An ExtKeyUsage of id-kp-N.
pub(crate) fn purposes(list: &[u8]) -> Vec<u8> {
    let oids: Vec<u8> = list
        .iter()
        .flat_map(|number| value(6, &[&[0x2b, 6, 1, 5, 5, 7, 3, *number]]))
        .collect();
    sequence(&[&oids])
}

fn authority_key(of: &LocalKey) -> Vec<u8> {
    sequence(&[&value(0x80, &[&of.public_key().key_identifier()])])
}
