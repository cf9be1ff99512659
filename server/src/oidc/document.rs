//! What OAuth servers and model providers read: who issues tokens, and by which keys to check them.

use muster_pki::bundle::Bundle;
use muster_pki::jwk;
use muster_pki::jws::Algorithm;
use serde_json::{Value, json};

/// The algorithms that our authorities sign tokens with, whatever key they are configured for.
const ALGORITHMS: [Algorithm; 3] = [Algorithm::Rs256, Algorithm::Es256, Algorithm::Es384];

/// The provider metadata (OpenID Connect Discovery 1.0, 3). There is nothing to log in to: the required members that belong to that stand empty or at the one
/// value that is allowed, as relying parties expect of workload identity.
pub(super) fn metadata(issuer: &str, jwks_uri: &str) -> String {
    json!({
        "issuer": issuer,
        "jwks_uri": jwks_uri,
        "authorization_endpoint": "",
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ALGORITHMS.map(Algorithm::name),
    })
    .to_string()
}

/// The keys that our tokens are signed with, as a JWK Set (RFC 7517 5). Each names its one algorithm and that it is for signatures, because relying parties
/// choose by both. A tainted key stays until it is revoked: tokens that it signed are still good.
///
/// None while there is no key at all: an empty set would be cached as the truth.
pub(super) fn keys(bundle: &Bundle) -> Option<String> {
    let keys: Vec<Value> = bundle
        .jwt_authorities()
        .iter()
        .filter_map(|authority| {
            let algorithm = Algorithm::for_key(authority.public_key().kind())?;
            let mut key = jwk::from_public_key(authority.public_key());
            key.insert("kid".into(), authority.key_id().as_str().into());
            key.insert("alg".into(), algorithm.name().into());
            key.insert("use".into(), "sig".into());
            Some(Value::Object(key))
        })
        .collect();
    (!keys.is_empty()).then(|| json!({ "keys": keys }).to_string())
}
