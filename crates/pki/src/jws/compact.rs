use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use super::algorithm::Algorithm;
use crate::{
    json::{self, JsonError},
    key::{BadSignature, PublicKey},
};

/// The longest token that is looked at. A token that names an identity is below 2 KiB.
pub(crate) const MAX_TOKEN: usize = 64 << 10;

/// A compact JWS that was read and not yet believed.
#[derive(Clone, Debug)]
pub struct Compact<'a> {
    algorithm: Algorithm,
    key_id: Option<String>,
    typ: Option<String>,
    payload: Vec<u8>,
    /// Header and payload as they came: what was signed.
    signed: &'a str,
    signature: Vec<u8>,
}

/// Why a text is no compact JWS of ours.
#[derive(Debug, thiserror::Error)]
pub enum CompactError {
    /// Longer than any token needs.
    #[error("the token has {0} bytes, more than 65536")]
    TooLong(usize),
    /// Not three parts (RFC 7515 7.1; JWT-SVID 5.1 allows nothing else).
    #[error("the token has not three parts (RFC 7515 7.1)")]
    Parts,
    /// A part is not base64url without padding.
    #[error("the {0} is not base64url without padding (RFC 7515 2)")]
    Base64(&'static str),
    /// The header is no strict JSON object.
    #[error("the header is not a JSON object with each member once (RFC 7515 4)")]
    Header(#[source] JsonError),
    /// A member of the header that may not be there. Its name is the sender's and is not repeated.
    #[error("the header has a member besides alg, kid and typ (JWT-SVID 2)")]
    HeaderMember,
    /// A member of the header that is no string.
    #[error("the header's {0} is not a string (RFC 7515 4.1)")]
    HeaderType(&'static str),
    /// No algorithm, or none that is allowed.
    #[error("the header's alg is none of the allowed ones (JWT-SVID 2.1)")]
    Algorithm,
}

impl<'a> Compact<'a> {
    /// Reads `token` byte for byte: nothing is trimmed, and each part has exactly one encoding.
    ///
    /// # Errors
    /// When the text is anything but a compact JWS with one of our algorithms and only `alg`, `kid` and `typ` in its
    /// header.
    pub fn parse(token: &'a str) -> Result<Self, CompactError> {
        if token.len() > MAX_TOKEN {
            return Err(CompactError::TooLong(token.len()));
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(CompactError::Parts)?;
        let (header, payload) = signed.split_once('.').ok_or(CompactError::Parts)?;
        if payload.contains('.') {
            return Err(CompactError::Parts);
        }
        let header = json::object(&decode(header, "header")?).map_err(CompactError::Header)?;
        if header
            .keys()
            .any(|name| !matches!(name.as_str(), "alg" | "kid" | "typ"))
        {
            return Err(CompactError::HeaderMember);
        }
        let algorithm = member(&header, "alg")?.as_deref().and_then(Algorithm::from_name);
        Ok(Self {
            algorithm: algorithm.ok_or(CompactError::Algorithm)?,
            key_id: member(&header, "kid")?,
            typ: member(&header, "typ")?,
            payload: decode(payload, "payload")?,
            signed,
            signature: decode(signature, "signature")?,
        })
    }

    /// The algorithm that the header names.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The key that the header names.
    pub fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    /// The type that the header names.
    pub fn typ(&self) -> Option<&str> {
        self.typ.as_deref()
    }

    /// The payload, which nobody may act on before [`Compact::verify`] said yes.
    pub fn unverified_payload(&self) -> &[u8] {
        &self.payload
    }

    /// Checks the signature.
    ///
    /// # Errors
    /// When `key` did not make it, or a key of its kind does not go with the algorithm.
    pub fn verify(&self, key: &PublicKey) -> Result<(), BadSignature> {
        self.algorithm
            .verify(key, self.signed.as_bytes(), &self.signature)
    }
}

fn decode(part: &str, name: &'static str) -> Result<Vec<u8>, CompactError> {
    // This engine refuses padding, the other alphabet, line breaks, and bits left over that are not zero.
    URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| CompactError::Base64(name))
}

fn member(header: &Map<String, Value>, name: &'static str) -> Result<Option<String>, CompactError> {
    match header.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(CompactError::HeaderType(name)),
    }
}
