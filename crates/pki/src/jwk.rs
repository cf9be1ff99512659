//! JSON Web Keys (RFC 7517): public keys in JSON, read by our key policy and printed in one form.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use crate::{
    jws::Algorithm,
    key::{KeyKind, PublicKey, PublicKeyError},
};

/// The DER of an Ed25519 SubjectPublicKeyInfo up to the key (RFC 8410 4).
const ED25519_SPKI: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// The members that hold private or secret values (RFC 7518 6.2.2, 6.3.2; RFC 8037 2).
const PRIVATE: [&str; 7] = ["d", "p", "q", "dp", "dq", "qi", "oth"];

/// Why a JWK gives no public key.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum JwkError {
    /// No `kty`, or one that we don't know: such keys are ignored (RFC 7517 5; TB 4.2.1).
    #[error("its kty is none of EC, RSA and OKP (TB 4.2.1)")]
    KeyType,
    /// No `crv`, or one that we don't know.
    #[error("its crv is none of P-256, P-384, P-521 and Ed25519")]
    Curve,
    /// It holds a private key.
    #[error("it publishes a private key (TB 3)")]
    Private,
    /// A member is absent, not text, or not base64url.
    #[error("its {0} is absent or not base64url (RFC 7518 6)")]
    Member(&'static str),
    /// Its `alg` does not go with it (RFC 7517 4.4).
    #[error("its alg does not go with the key (RFC 7517 4.4)")]
    Algorithm,
    /// It is not for checking signatures.
    #[error("its key_ops do not hold verify (RFC 7517 4.3)")]
    Operations,
    /// The policy refuses the key.
    #[error("{0}")]
    Key(#[from] PublicKeyError),
}

/// Reads the public key of a JWK. Members that do not concern the key (`use`, `kid`, unknown ones) are left to the
/// caller.
///
/// # Errors
/// When there is no key in it that we would use, or a private one.
pub fn public_key(jwk: &Map<String, Value>) -> Result<PublicKey, JwkError> {
    let kty = jwk.get("kty").and_then(Value::as_str).ok_or(JwkError::KeyType)?;
    if !matches!(kty, "EC" | "RSA" | "OKP") {
        return Err(JwkError::KeyType);
    }
    if PRIVATE.iter().any(|name| jwk.contains_key(*name)) {
        return Err(JwkError::Private);
    }
    let key = match kty {
        "EC" => {
            let kind = match jwk.get("crv").and_then(Value::as_str) {
                Some("P-256") => KeyKind::EcP256,
                Some("P-384") => KeyKind::EcP384,
                Some("P-521") => KeyKind::EcP521,
                _ => return Err(JwkError::Curve),
            };
            PublicKey::from_ec_coordinates(kind, &bytes(jwk, "x")?, &bytes(jwk, "y")?)?
        }
        "RSA" => PublicKey::from_rsa_components(&bytes(jwk, "n")?, &bytes(jwk, "e")?)?,
        _ => {
            if jwk.get("crv").and_then(Value::as_str) != Some("Ed25519") {
                return Err(JwkError::Curve);
            }
            PublicKey::from_spki_der(&[&ED25519_SPKI[..], &bytes(jwk, "x")?].concat())?
        }
    };
    let fits = match jwk.get("alg") {
        None => true,
        Some(Value::String(name)) => match Algorithm::from_name(name) {
            Some(algorithm) => algorithm.fits(key.kind()),
            None => name == "EdDSA" && key.kind() == KeyKind::Ed25519,
        },
        Some(_) => false,
    };
    if !fits {
        return Err(JwkError::Algorithm);
    }
    let verifies = match jwk.get("key_ops") {
        None => true,
        Some(operations) => operations
            .as_array()
            .is_some_and(|list| list.iter().any(|one| one == "verify")),
    };
    if verifies {
        Ok(key)
    } else {
        Err(JwkError::Operations)
    }
}

/// The one algorithm that a JWK's key is for, where it names one (RFC 7517 4.4).
pub fn algorithm(jwk: &Map<String, Value>) -> Option<Algorithm> {
    jwk.get("alg")
        .and_then(Value::as_str)
        .and_then(Algorithm::from_name)
}

/// The members of a public key's JWK, without any that says what it is for.
pub fn from_public_key(key: &PublicKey) -> Map<String, Value> {
    let mut jwk = Map::new();
    let mut set = |name: &str, value: String| jwk.insert(name.to_owned(), Value::String(value));
    if let Some((x, y)) = key.ec_coordinates() {
        let curve = match key.kind() {
            KeyKind::EcP384 => "P-384",
            KeyKind::EcP521 => "P-521",
            _ => "P-256",
        };
        set("kty", "EC".into());
        set("crv", curve.into());
        set("x", URL_SAFE_NO_PAD.encode(x));
        set("y", URL_SAFE_NO_PAD.encode(y));
    } else if let Some((n, e)) = key.rsa_components() {
        set("kty", "RSA".into());
        set("n", URL_SAFE_NO_PAD.encode(n));
        set("e", URL_SAFE_NO_PAD.encode(e));
    } else {
        set("kty", "OKP".into());
        set("crv", "Ed25519".into());
        set("x", URL_SAFE_NO_PAD.encode(key.key_bytes()));
    }
    jwk
}

fn bytes(jwk: &Map<String, Value>, name: &'static str) -> Result<Vec<u8>, JwkError> {
    let text = jwk
        .get(name)
        .and_then(Value::as_str)
        .ok_or(JwkError::Member(name))?;
    URL_SAFE_NO_PAD.decode(text).map_err(|_| JwkError::Member(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        json,
        local_key::{KeyAlgorithm, LocalKey},
        signer::Signer,
    };

    fn read(text: &str) -> Result<PublicKey, JwkError> {
        public_key(&json::object(text.as_bytes()).unwrap())
    }

    #[test]
    fn what_we_print_we_read() {
        for algorithm in [KeyAlgorithm::EcP256, KeyAlgorithm::EcP384, KeyAlgorithm::Rsa2048] {
            let key = LocalKey::generate(algorithm).unwrap();
            let jwk = from_public_key(key.public_key());
            assert_eq!(public_key(&jwk).as_ref(), Ok(key.public_key()), "{algorithm}");
        }
        let ed = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
        let key = read(ed).unwrap();
        assert_eq!(
            Value::Object(from_public_key(&key)).to_string(),
            r#"{"crv":"Ed25519","kty":"OKP","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#
        );
    }

    #[test]
    fn keys_that_cannot_be_used_say_why() {
        // The key of RFC 7515 A.3, changed one member at a time.
        let ec = |x: &str, more: &str| {
            read(&format!(
                r#"{{"kty":"EC","crv":"P-256","x":"{x}","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"{more}}}"#
            ))
        };
        let x = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
        assert!(ec(x, "").is_ok());
        assert!(ec(x, r#","alg":"ES256""#).is_ok());
        assert_eq!(ec(x, r#","alg":"ES384""#), Err(JwkError::Algorithm));
        assert_eq!(ec(x, r#","alg":7"#), Err(JwkError::Algorithm));
        assert!(ec(x, r#","key_ops":["verify"]"#).is_ok());
        assert_eq!(ec(x, r#","key_ops":["encrypt"]"#), Err(JwkError::Operations));
        assert_eq!(ec(x, r#","d":"AQ""#), Err(JwkError::Private));
        assert_eq!(ec("", ""), Err(JwkError::Key(PublicKeyError::Point)));
        assert_eq!(ec(&format!("{x}="), ""), Err(JwkError::Member("x")));
        assert_eq!(read(r#"{"kty":"EC","crv":"P-256K"}"#), Err(JwkError::Curve));
        assert_eq!(read(r#"{"kty":"oct","k":"AQ"}"#), Err(JwkError::KeyType));
        assert_eq!(read(r#"{"crv":"P-256"}"#), Err(JwkError::KeyType));
        assert_eq!(
            read(r#"{"kty":"RSA","n":"AQ","e":"AQAB"}"#),
            Err(JwkError::Key(PublicKeyError::RsaSize(1)))
        );
    }
}
