//! Part 3 of the conformance suite: JWT-SVIDs.
//! Every case of every level is run; what the standards leave open (`policy`) is decided as the vectors say.

use muster_identity::UnixTime;
use muster_pki::{
    bundle::{Bundle, BundleMap},
    jwt::verify_jwt_svid,
};
use serde_json::Value;

const VECTORS: &str = include_str!("../../../tests/conformance/spiffe_vectors.json");
/// 2026-06-01: the moment at which the suite judges.
const NOW: i64 = 1_780_272_000;

fn text<'a>(case: &'a Value, key: &str) -> &'a str {
    case[key]
        .as_str()
        .unwrap_or_else(|| panic!("{key} of {}", case["id"]))
}

#[test]
fn every_jwt_svid_case_is_decided_as_the_standard_does() {
    let all: Value = serde_json::from_str(VECTORS).unwrap();
    let part = &all["jwt_svids"];
    let bundles: BundleMap = part["bundles"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, document)| {
            let parsed = Bundle::from_document(name.parse().unwrap(), document.to_string().as_bytes());
            parsed.unwrap().bundle
        })
        .collect();
    let cases = part["cases"].as_array().unwrap();
    assert!(cases.len() >= 78);
    let mut wrong = Vec::new();
    for case in cases {
        let verdict = verify_jwt_svid(
            text(case, "token"),
            &bundles,
            text(case, "audience"),
            UnixTime::from_secs(NOW),
        );
        match (text(case, "expect"), verdict) {
            ("valid", Ok(svid)) => assert_eq!(svid.id().path().as_str(), "/w", "{}", case["id"]),
            ("invalid", Err(_)) => {}
            (expected, got) => {
                let got = got
                    .map(|svid| svid.id().to_string())
                    .map_err(|error| error.to_string());
                wrong.push(format!(
                    "{} ({}): expected {expected}, got {got:?}",
                    case["id"], case["why"]
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
