//! The SPIFFE bundle document: a JWK Set with two parameters of its own (TB 4).

use base64::{Engine, engine::general_purpose::STANDARD};
use muster_identity::TrustDomain;
use serde_json::{Map, Value};

use super::{Bundle, KeyIdTaken};
use crate::{
    json::{self, JsonError},
    jwk::{self, JwkError},
    jws::Algorithm,
    jwt::{JwtAuthority, KeyId, ParseKeyIdError},
    x509::{AuthorityError, X509Authority},
};

/// The longest document that is looked at.
pub(super) const MAX_DOCUMENT: usize = 4 << 20;
/// The most keys that are looked at.
const MAX_KEYS: usize = 10_000;
/// The most objects in a document: the keys, and some for members that are newer than this program.
const MAX_OBJECTS: usize = MAX_KEYS + 1_000;

/// A bundle, and what of its document was left out.
#[derive(Clone, Debug)]
pub struct ParsedBundle {
    /// The bundle.
    pub bundle: Bundle,
    /// The entries that were not used. Worth a line in a log: an owner who published them meant something.
    pub ignored: Vec<IgnoredKey>,
}

/// An entry of a document that is not used.
#[derive(Debug, Clone)]
pub struct IgnoredKey {
    /// Its place among the keys, from 0.
    pub index: usize,
    /// Why.
    pub why: IgnoreReason,
}

/// Why an entry is not used.
#[derive(Clone, Debug, thiserror::Error)]
pub enum IgnoreReason {
    /// No object.
    #[error("it is not a JWK (RFC 7517 4)")]
    Form,
    /// No use, or one that we don't know.
    #[error("its use is none of x509-svid, jwt-svid and wit-svid (TB 4.2.2)")]
    Use,
    /// No key that we would use.
    #[error(transparent)]
    Key(#[from] JwkError),
    /// The key signs no tokens.
    #[error("no token may be signed with a key of its kind (JWT-SVID 2.1)")]
    Kind,
    /// A token-signing key without a usable name.
    #[error("it has no kid that can be used (JWT-SVID 6.1, WIT-SVID 6.1)")]
    KeyId,
    /// An X.509 authority without a certificate.
    #[error("it has no x5c with a certificate in base64 (X509-SVID 6.2, RFC 7517 4.7)")]
    Certificate,
    /// The certificate is no authority's.
    #[error("its certificate is not that of an authority (X509-SVID 6.1)")]
    Authority(#[source] std::sync::Arc<AuthorityError>),
}

/// Why a document is no bundle.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// More bytes than any bundle needs.
    #[error("the bundle has {0} bytes, more than 4 MiB")]
    TooLong(usize),
    /// No strict JSON object.
    #[error("the bundle is not a JSON object with each member once (TB 4)")]
    Json(#[source] JsonError),
    /// No list of keys. An empty list means something: that every key was revoked.
    #[error("the bundle has no list of keys (TB 4.1.3)")]
    Keys,
    /// More keys than any bundle needs.
    #[error("the bundle has {0} keys, more than 10000")]
    TooMany(usize),
    /// A sequence number that is none.
    #[error("spiffe_sequence is not a whole number from 0 (TB 4.1.1)")]
    Sequence,
    /// A refresh hint that is none.
    #[error("spiffe_refresh_hint is not a whole number of seconds from 0 (TB 4.1.2)")]
    RefreshHint,
    /// A private key: whoever read the bundle has it.
    #[error("key {index} publishes a private key (TB 3)")]
    Private {
        /// Its place among the keys.
        index: usize,
    },
    /// Entry and certificate name two keys.
    #[error("key {index} is not the key of its certificate (RFC 7517 4.7)")]
    Mismatch {
        /// Its place among the keys.
        index: usize,
    },
    /// One name for two keys.
    #[error("key {index}")]
    KeyId {
        /// Its place among the keys.
        index: usize,
        /// Which name.
        source: KeyIdTaken,
    },
}

impl Bundle {
    /// Reads the bundle document of `trust_domain`. The document does not say whose it is: the caller knows from where
    /// it came.
    ///
    /// # Errors
    /// When nobody can say what the document means. Nothing of it is used then.
    pub fn from_document(trust_domain: TrustDomain, document: &[u8]) -> Result<ParsedBundle, DocumentError> {
        if document.len() > MAX_DOCUMENT {
            return Err(DocumentError::TooLong(document.len()));
        }
        // Each key is an object. Taken apart, a million of them would be fifty times as large.
        let objects = document.iter().filter(|byte| **byte == b'{').count();
        if objects > MAX_OBJECTS {
            return Err(DocumentError::TooMany(objects));
        }
        let object = json::object(document).map_err(DocumentError::Json)?;
        Self::from_object(trust_domain, &object)
    }

    pub(super) fn from_object(
        trust_domain: TrustDomain,
        document: &Map<String, Value>,
    ) -> Result<ParsedBundle, DocumentError> {
        let mut bundle = Self::new(trust_domain);
        bundle.sequence = whole_number(document, "spiffe_sequence").ok_or(DocumentError::Sequence)?;
        bundle.refresh_hint =
            whole_number(document, "spiffe_refresh_hint").ok_or(DocumentError::RefreshHint)?;
        let keys = document
            .get("keys")
            .and_then(Value::as_array)
            .ok_or(DocumentError::Keys)?;
        if keys.len() > MAX_KEYS {
            return Err(DocumentError::TooMany(keys.len()));
        }
        let mut ignored = Vec::new();
        for (index, key) in keys.iter().enumerate() {
            match bundle.add(index, key) {
                Ok(()) => {}
                Err(Fault::Ignore(why)) => ignored.push(IgnoredKey { index, why }),
                Err(Fault::Refuse(why)) => return Err(why),
            }
        }
        Ok(ParsedBundle { bundle, ignored })
    }

    fn add(&mut self, index: usize, key: &Value) -> Result<(), Fault> {
        let jwk = key.as_object().ok_or(IgnoreReason::Form)?;
        let public_key = jwk::public_key(jwk);
        if public_key == Err(JwkError::Private) {
            return Err(Fault::Refuse(DocumentError::Private { index }));
        }
        let taken = |source| Fault::Refuse(DocumentError::KeyId { index, source });
        match jwk.get("use").and_then(Value::as_str) {
            Some("x509-svid") => {
                let public_key = public_key.map_err(IgnoreReason::Key)?;
                let authority = X509Authority::from_der(&certificate(jwk)?)
                    .map_err(|error| IgnoreReason::Authority(std::sync::Arc::new(error)))?;
                if *authority.public_key() != public_key {
                    return Err(Fault::Refuse(DocumentError::Mismatch { index }));
                }
                self.put_x509_authority(authority);
            }
            Some("jwt-svid") => {
                self.put_jwt_authority(token_authority(jwk, public_key)?)
                    .map_err(taken)?;
            }
            Some("wit-svid") => {
                self.put_wit_authority(token_authority(jwk, public_key)?)
                    .map_err(taken)?;
            }
            _ => return Err(IgnoreReason::Use.into()),
        }
        Ok(())
    }
}

/// What becomes of an entry that is not taken.
enum Fault {
    Ignore(IgnoreReason),
    Refuse(DocumentError),
}

impl From<IgnoreReason> for Fault {
    fn from(why: IgnoreReason) -> Self {
        Self::Ignore(why)
    }
}

fn token_authority(
    jwk: &Map<String, Value>,
    public_key: Result<crate::PublicKey, JwkError>,
) -> Result<JwtAuthority, IgnoreReason> {
    let public_key = public_key?;
    if Algorithm::for_key(public_key.kind()).is_none() {
        return Err(IgnoreReason::Kind);
    }
    let key_id: KeyId = jwk
        .get("kid")
        .and_then(Value::as_str)
        .ok_or(IgnoreReason::KeyId)?
        .parse()
        .map_err(|_: ParseKeyIdError| IgnoreReason::KeyId)?;
    Ok(JwtAuthority::new(key_id, public_key).with_algorithm(jwk::algorithm(jwk)))
}

/// The first certificate of `x5c`, and nothing of the others (X509-SVID 6.2). Unlike everything else in JOSE it is
/// plain base64.
fn certificate(jwk: &Map<String, Value>) -> Result<Vec<u8>, IgnoreReason> {
    let first = jwk
        .get("x5c")
        .and_then(Value::as_array)
        .and_then(|chain| chain.first());
    let text = first.and_then(Value::as_str).ok_or(IgnoreReason::Certificate)?;
    STANDARD.decode(text).map_err(|_| IgnoreReason::Certificate)
}

/// A member that is absent or a whole number from 0; nothing when it is anything else.
fn whole_number(document: &Map<String, Value>, name: &str) -> Option<Option<u64>> {
    match document.get(name) {
        None => Some(None),
        Some(value) => value.as_u64().map(Some),
    }
}
