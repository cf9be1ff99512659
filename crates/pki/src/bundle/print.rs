//! Bundles as others read them.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use super::Bundle;
use crate::{jwk, jwt::JwtAuthority};

/// The line length of PEM (RFC 7468 2).
const PEM_LINE: usize = 64;

impl Bundle {
    /// The bundle document (TB 4): `keys` always there, `use` on each, `x5c` with exactly one certificate and no `kid`
    /// on X.509 authorities, a `kid` on the others, and nothing besides.
    pub fn to_document(&self) -> String {
        Value::Object(self.to_object()).to_string()
    }

    pub(super) fn to_object(&self) -> Map<String, Value> {
        let mut keys = Vec::new();
        for authority in &self.x509_authorities {
            let mut key = jwk::from_public_key(authority.public_key());
            key.insert("use".into(), "x509-svid".into());
            key.insert("x5c".into(), json!([STANDARD.encode(authority.der())]));
            keys.push(Value::Object(key));
        }
        let tokens = [
            ("jwt-svid", &self.jwt_authorities),
            ("wit-svid", &self.wit_authorities),
        ];
        for (usage, authorities) in tokens {
            for authority in authorities {
                let mut key = named_key(authority);
                key.insert("use".into(), usage.into());
                keys.push(Value::Object(key));
            }
        }
        let mut document = Map::new();
        document.insert("keys".into(), Value::Array(keys));
        if let Some(sequence) = self.sequence {
            document.insert("spiffe_sequence".into(), sequence.into());
        }
        if let Some(hint) = self.refresh_hint {
            document.insert("spiffe_refresh_hint".into(), hint.into());
        }
        document
    }

    /// The JWK Set that FetchJWTBundles gives (Workload API 6.2.2): the keys for JWT-SVIDs and no other, so that no
    /// reader can take a WIT key for one; without `use`, as readers of that call expect.
    pub fn jwks_for_workload(&self) -> String {
        let keys: Vec<Value> = self
            .jwt_authorities
            .iter()
            .map(|authority| Value::Object(named_key(authority)))
            .collect();
        json!({ "keys": keys }).to_string()
    }

    /// The authorities' certificates one after the other, as the Workload API carries them (Workload API 5.2.1).
    pub fn x509_der_concat(&self) -> Vec<u8> {
        self.x509_authorities
            .iter()
            .flat_map(|authority| authority.der().iter().copied())
            .collect()
    }

    /// The authorities' certificates as PEM.
    pub fn x509_pem(&self) -> String {
        let mut text = String::new();
        for authority in &self.x509_authorities {
            text.push_str("-----BEGIN CERTIFICATE-----\n");
            let encoded = STANDARD.encode(authority.der());
            for start in (0..encoded.len()).step_by(PEM_LINE) {
                text.push_str(&encoded[start..encoded.len().min(start + PEM_LINE)]);
                text.push('\n');
            }
            text.push_str("-----END CERTIFICATE-----\n");
        }
        text
    }
}

fn named_key(authority: &JwtAuthority) -> Map<String, Value> {
    let mut key = jwk::from_public_key(authority.public_key());
    key.insert("kid".into(), authority.key_id().as_str().into());
    key
}
