//! Part 5 of the conformance suite: bundle documents and bundle maps.
//! Every case of every level is run; what the standards leave open (`policy`) is decided as the vectors say.

#![expect(clippy::unwrap_used, reason = "a vector that cannot be read fails its test")]

use muster_pki::bundle::{Bundle, BundleMap};
use serde_json::Value;

const VECTORS: &str = include_str!("../../../tests/conformance/spiffe_vectors.json");

fn text<'a>(case: &'a Value, key: &str) -> &'a str {
    case[key]
        .as_str()
        .unwrap_or_else(|| panic!("{key} of {}", case["id"]))
}

fn cases(part: &str) -> Vec<Value> {
    let all: Value = serde_json::from_str(VECTORS).unwrap();
    all[part].as_array().unwrap().clone()
}

fn kids(authorities: &[muster_pki::jwt::JwtAuthority]) -> Vec<&str> {
    authorities
        .iter()
        .map(|authority| authority.key_id().as_str())
        .collect()
}

#[test]
fn every_bundle_case_is_decided_as_the_standard_does() {
    let cases = cases("bundles");
    assert!(cases.len() >= 39);
    for case in cases {
        let (id, why) = (text(&case, "id"), text(&case, "why"));
        let parsed = Bundle::from_document("example.org".parse().unwrap(), text(&case, "doc").as_bytes());
        match (text(&case, "expect"), parsed) {
            ("accept", Ok(parsed)) => {
                let bundle = parsed.bundle;
                assert_eq!(case["x509"], bundle.x509_authorities().len(), "{id} ({why})");
                assert_eq!(
                    case["jwt_kids"],
                    Value::from(kids(bundle.jwt_authorities())),
                    "{id} ({why})"
                );
                assert_eq!(
                    case["wit_kids"],
                    Value::from(kids(bundle.wit_authorities())),
                    "{id} ({why})"
                );
                assert_eq!(case["sequence"], Value::from(bundle.sequence()), "{id} ({why})");
                assert_eq!(
                    case["refresh_hint"],
                    Value::from(bundle.refresh_hint()),
                    "{id} ({why})"
                );
                // What we print of it means the same.
                let again =
                    Bundle::from_document("example.org".parse().unwrap(), bundle.to_document().as_bytes());
                let again = again.unwrap();
                assert_eq!(again.bundle, bundle, "{id} ({why})");
                assert!(again.ignored.is_empty(), "{id} ({why})");
            }
            ("reject", Err(_)) => {}
            (expected, got) => panic!("{id} ({why}): expected {expected}, got {got:?}"),
        }
    }
}

#[test]
fn every_bundle_map_case_is_decided_as_the_standard_does() {
    let cases = cases("bundle_maps");
    assert!(cases.len() >= 6);
    for case in cases {
        let (id, why) = (text(&case, "id"), text(&case, "why"));
        let parsed = BundleMap::from_document(text(&case, "doc").as_bytes());
        match (text(&case, "expect"), parsed) {
            ("accept", Ok((map, _))) => {
                let (again, ignored) = BundleMap::from_document(map.to_document().as_bytes()).unwrap();
                assert_eq!(again, map, "{id} ({why})");
                assert!(ignored.is_empty(), "{id} ({why})");
            }
            ("reject", Err(_)) => {}
            (expected, got) => panic!("{id} ({why}): expected {expected}, got {got:?}"),
        }
    }
}
