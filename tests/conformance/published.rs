//! Part 5c: the bundle that a running server publishes.

use std::collections::BTreeSet;

use muster_tests::{Cluster, Settings};
use serde_json::Value;

use crate::{
    book::{Book, list},
    workload_api::append,
};

pub(crate) fn judge(book: &mut Book) {
    let mut cluster = Cluster::start_server_only(&Settings::default());
    let first = document(&cluster);
    book.case("TB-P1", || {
        assert!(!list(&first["keys"]).is_empty());
        let empty = muster_pki::bundle::Bundle::new("example.org".parse().unwrap());
        let empty: Value = serde_json::from_str(&empty.to_document()).unwrap();
        assert_eq!(empty["keys"], Value::Array(Vec::new()));
    });
    book.case("TB-P3", || {
        let mut kids = BTreeSet::new();
        for key in list(&first["keys"]) {
            match key["use"].as_str() {
                Some("x509-svid") => assert!(key.get("kid").is_none() && list(&key["x5c"]).len() == 1),
                Some("jwt-svid") => {
                    assert!(key.get("x5c").is_none());
                    assert!(kids.insert(key["kid"].as_str().expect("a kid")), "twice");
                }
                other => panic!("use {other:?}"),
            }
        }
        assert!(!kids.is_empty());
    });
    book.case("TB-P4", || {
        let known = |object: &Value, names: &[&str]| {
            let strange: Vec<_> = object
                .as_object()
                .unwrap()
                .keys()
                .filter(|name| !names.contains(&name.as_str()))
                .collect();
            assert!(strange.is_empty(), "{strange:?}");
        };
        known(&first, &["keys", "spiffe_sequence", "spiffe_refresh_hint"]);
        for key in list(&first["keys"]) {
            known(key, &["kty", "use", "kid", "x5c", "crv", "x", "y", "n", "e"]);
        }
    });
    book.case("TB-P5", || {
        for key in list(&first["keys"]) {
            assert!(
                ["d", "p", "q", "dp", "dq", "qi", "k"]
                    .iter()
                    .all(|name| key.get(name).is_none())
            );
        }
    });
    book.case("TB-P2", || {
        cluster.block_on(append(&cluster));
        let changed = sequence(&document(&cluster));
        assert!(changed > sequence(&first));
        assert_eq!(sequence(&document(&cluster)), changed, "nothing changed");
        cluster.take_server().kill();
        cluster.start_server();
        assert!(sequence(&document(&cluster)) >= changed, "it never falls");
    });
}

fn document(cluster: &Cluster) -> Value {
    serde_json::from_str(&cluster.muster_ok(&["bundle", "show", "--format", "spiffe"])).unwrap()
}

fn sequence(document: &Value) -> u64 {
    document["spiffe_sequence"].as_u64().expect("a number")
}
