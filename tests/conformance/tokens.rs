//! Part 3: JWT-SVIDs, with real tokens.

use muster_identity::UnixTime;
use muster_pki::{
    bundle::{Bundle, BundleMap},
    jwt::verify_jwt_svid,
};
use serde_json::Value;

use crate::book::{Book, VECTORS, list, text};

/// 2026-06-01: the moment at which the vectors are judged.
const NOW: i64 = 1_780_272_000;

pub(crate) fn judge(book: &mut Book) {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let part = &vectors["jwt_svids"];
    let bundles = part["bundles"]
        .as_object()
        .expect("bundles by trust domain")
        .iter();
    let bundles: BundleMap = bundles
        .map(|(name, document)| {
            let parsed = Bundle::from_document(name.parse().unwrap(), document.to_string().as_bytes());
            parsed.unwrap().bundle
        })
        .collect();
    for case in list(&part["cases"]) {
        book.case(text(case, "id"), || {
            let verdict = verify_jwt_svid(
                text(case, "token"),
                &bundles,
                text(case, "audience"),
                UnixTime::from_secs(NOW),
            );
            match (text(case, "expect"), verdict) {
                ("valid", Ok(svid)) => assert_eq!(svid.id().path().as_str(), "/w"),
                ("invalid", Err(_)) => {}
                (expected, got) => panic!(
                    "expected {expected}, got {:?}",
                    got.map(|svid| svid.id().to_string())
                ),
            }
        });
    }
}
