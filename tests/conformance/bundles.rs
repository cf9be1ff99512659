//! Part 5: bundle documents and maps of bundles.

use muster_pki::{
    bundle::{Bundle, BundleMap},
    jwt::JwtAuthority,
};
use serde_json::Value;

use crate::book::{Book, VECTORS, list, text};

pub(crate) fn judge(book: &mut Book) {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    for case in list(&vectors["bundles"]) {
        book.case(text(case, "id"), || document(case));
    }
    for case in list(&vectors["bundle_maps"]) {
        book.case(text(case, "id"), || map(case));
    }
}

fn document(case: &Value) {
    let read = |bytes: &[u8]| Bundle::from_document("example.org".parse().unwrap(), bytes);
    match (text(case, "expect"), read(text(case, "doc").as_bytes())) {
        ("accept", Ok(parsed)) => {
            let bundle = parsed.bundle;
            assert_eq!(case["x509"], bundle.x509_authorities().len());
            assert_eq!(case["jwt_kids"], kids(bundle.jwt_authorities()));
            assert_eq!(case["wit_kids"], kids(bundle.wit_authorities()));
            assert_eq!(case["sequence"], Value::from(bundle.sequence()));
            assert_eq!(case["refresh_hint"], Value::from(bundle.refresh_hint()));
            let again = read(bundle.to_document().as_bytes()).unwrap();
            assert_eq!(again.bundle, bundle, "what is printed of it means the same");
            assert!(again.ignored.is_empty());
        }
        ("reject", Err(_)) => {}
        (expected, got) => panic!("expected {expected}, got {got:?}"),
    }
}

fn map(case: &Value) {
    match (
        text(case, "expect"),
        BundleMap::from_document(text(case, "doc").as_bytes()),
    ) {
        ("accept", Ok((map, _))) => {
            let (again, ignored) = BundleMap::from_document(map.to_document().as_bytes()).unwrap();
            assert_eq!(again, map, "what is printed of it means the same");
            assert!(ignored.is_empty());
        }
        ("reject", Err(_)) => {}
        (expected, got) => panic!("expected {expected}, got {got:?}"),
    }
}

fn kids(authorities: &[JwtAuthority]) -> Value {
    authorities
        .iter()
        .map(|authority| authority.key_id().as_str())
        .collect()
}
