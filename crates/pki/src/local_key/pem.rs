//! Private keys in files that people and their tools write.

use rustls_pki_types::AlgorithmIdentifier;
use rustls_pki_types::alg_id;
use rustls_pki_types::pem::{PemObject, SectionKind};
use zeroize::Zeroizing;

use super::{LocalKey, LocalKeyError};
use crate::der::{self, Reader};

/// More than any key with some text around it has.
const MAX_PEM: usize = 64 * 1024;

impl LocalKey {
    /// Reads the one private key of a PEM text: PKCS#8, PKCS#1 (RSA) or SEC 1 (EC). Other blocks are skipped, as tools put
    /// certificates and curve parameters beside it.
    ///
    /// # Errors
    /// When there is none or more than one, it is encrypted, or it is none that is used here.
    pub fn from_pem(pem: &[u8]) -> Result<Self, LocalKeyError> {
        if pem.len() > MAX_PEM {
            return Err(LocalKeyError::Pem);
        }
        let mut found = None;
        for block in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem) {
            let (kind, content) = block.map_err(|_| LocalKeyError::Pem)?;
            let content = Zeroizing::new(content);
            let key = match kind {
                SectionKind::PrivateKey => Self::from_pkcs8(&content)?,
                SectionKind::RsaPrivateKey => {
                    let wrapped = pkcs8(alg_id::RSA_ENCRYPTION.as_ref(), &content);
                    Self::from_pkcs8(&wrapped)?
                }
                SectionKind::EcPrivateKey => {
                    let curve = sec1_curve(&content).ok_or(LocalKeyError::Malformed)?;
                    Self::from_pkcs8(&pkcs8(curve.as_ref(), &content))?
                }
                _ => continue,
            };
            if found.replace(key).is_some() {
                return Err(LocalKeyError::Pem);
            }
        }
        found.ok_or(LocalKeyError::Pem)
    }
}

/// `PrivateKeyInfo` of version 0 around a key in its own format (RFC 5208 5).
fn pkcs8(algorithm: &[u8], key: &[u8]) -> Zeroizing<Vec<u8>> {
    let key = Zeroizing::new(der::value(der::OCTET_STRING, &[key]));
    let parts: [&[u8]; 3] = [
        &[der::INTEGER, 1, 0],
        &der::value(der::SEQUENCE, &[algorithm]),
        &key,
    ];
    Zeroizing::new(der::value(der::SEQUENCE, &parts))
}

/// The curve that the key names (RFC 5915 3).
fn sec1_curve(key: &[u8]) -> Option<AlgorithmIdentifier> {
    let mut fields = Reader::new(Reader::new(key).read(der::SEQUENCE).ok()?);
    fields.read(der::INTEGER).ok()?;
    fields.read(der::OCTET_STRING).ok()?;
    let oid = fields.read_optional(0xa0).ok()??;
    let known = [alg_id::ECDSA_P256, alg_id::ECDSA_P384, alg_id::ECDSA_P521];
    known
        .into_iter()
        .find(|algorithm| !oid.is_empty() && algorithm.as_ref().ends_with(oid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{KeyAlgorithm, Signer};

    fn pem(label: &str, der: &[u8]) -> String {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
    }

    /// The key inside of a PKCS#8 key.
    fn inner(pkcs8: &[u8]) -> Vec<u8> {
        let mut fields = Reader::new(Reader::new(pkcs8).read(der::SEQUENCE).unwrap());
        fields.read(der::INTEGER).unwrap();
        fields.read(der::SEQUENCE).unwrap();
        fields.read(der::OCTET_STRING).unwrap().to_vec()
    }

    #[test]
    fn each_form_of_a_key_is_read() {
        let rsa = LocalKey::generate(KeyAlgorithm::Rsa2048).unwrap();
        let pkcs8 = rsa.to_pkcs8().unwrap();
        for text in [
            pem("PRIVATE KEY", pkcs8.expose_secret()),
            pem("RSA PRIVATE KEY", &inner(pkcs8.expose_secret())),
            pem("CERTIFICATE", b"beside it") + &pem("PRIVATE KEY", pkcs8.expose_secret()),
        ] {
            let read = LocalKey::from_pem(text.as_bytes()).unwrap();
            assert_eq!(read.public_key(), rsa.public_key());
        }
        let ec = LocalKey::generate(KeyAlgorithm::EcP256).unwrap();
        let own = inner(ec.to_pkcs8().unwrap().expose_secret());
        let mut fields = Reader::new(Reader::new(&own).read(der::SEQUENCE).unwrap());
        fields.read(der::INTEGER).unwrap();
        let number = fields.read_with_header(der::OCTET_STRING).unwrap().0;
        // As OpenSSL writes it, with the curve inside and once more beside it.
        let curve = [6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
        let parts: [&[u8]; 3] = [&[der::INTEGER, 1, 1], number, &der::value(0xa0, &[&curve])];
        let sec1 = pem("EC PARAMETERS", &curve) + &pem("EC PRIVATE KEY", &der::value(der::SEQUENCE, &parts));
        let read = LocalKey::from_pem(sec1.as_bytes()).unwrap();
        assert_eq!(read.public_key(), ec.public_key());
    }

    #[test]
    fn none_two_and_encrypted_ones_are_refused() {
        let key = LocalKey::generate(KeyAlgorithm::EcP256)
            .unwrap()
            .to_pkcs8()
            .unwrap();
        let one = pem("PRIVATE KEY", key.expose_secret());
        let refused = [
            String::new(),
            "no PEM".to_owned(),
            one.repeat(2),
            pem("ENCRYPTED PRIVATE KEY", key.expose_secret()),
            pem("PRIVATE KEY", b"junk"),
            pem("EC PRIVATE KEY", b"junk"),
            "x".repeat(MAX_PEM + 1),
        ];
        for text in refused {
            assert!(LocalKey::from_pem(text.as_bytes()).is_err(), "{text:.60}");
        }
    }
}
