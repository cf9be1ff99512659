//! The keys of a trust domain as the Workload API hands them out: a JWK Set without `use`, which a bundle document must have.

use muster_identity::TrustDomain;
use muster_pki::bundle::{Bundle, DocumentError, ParsedBundle};
use serde_json::{Map, Value};

/// Reads such a set. What keeps its `use` is what it says.
pub(crate) fn read(trust_domain: TrustDomain, set: &[u8]) -> Result<ParsedBundle, DocumentError> {
    let Ok(mut document) = serde_json::from_slice::<Value>(set) else {
        // It says what is wrong with it.
        return Bundle::from_document(trust_domain, set);
    };
    for key in keys(&mut document) {
        key.entry("use").or_insert_with(|| "jwt-svid".into());
    }
    Bundle::from_document(trust_domain, document.to_string().as_bytes())
}

/// Whether this is such a set and no bundle document: there are keys, and none says what it is for.
pub(crate) fn is_one(bytes: &[u8]) -> bool {
    let Ok(mut document) = serde_json::from_slice::<Value>(bytes) else {
        return false;
    };
    let mut keys = keys(&mut document).peekable();
    keys.peek().is_some() && keys.all(|key| !key.contains_key("use"))
}

fn keys(document: &mut Value) -> impl Iterator<Item = &mut Map<String, Value>> {
    let keys = document.get_mut("keys").and_then(Value::as_array_mut);
    keys.into_iter().flatten().filter_map(Value::as_object_mut)
}
