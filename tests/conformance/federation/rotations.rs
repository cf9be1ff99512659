//! Cases on a peer whose authorities turn over. By command: by themselves it would take minutes, and the steps are the same.

use muster_tests::until;
use serde_json::Value;

use super::{Stage, ask, bundle, document};

impl Stage {
    /// FD-25: whatever signs the certificate of the peer's server stands in the bundle at its endpoint before. A verifier that took the bundle just
    /// before is content.
    pub(super) fn new_key_is_published_first(&self) {
        let first = document(&self.theirs);
        let old = self.their_signing_authority();
        self.their_authority(&["prepare", "x509"]);
        let (mut held, mut new) = (first.clone(), Value::Null);
        until("the new key at the endpoint", || {
            held = self.published(&held);
            new = keys_of_one_alone(&held, &first);
            new["keys"].as_array().map(Vec::len) == Some(1)
        });
        assert!(self.shows_certificate_of(&first) && !self.shows_certificate_of(&new));

        self.their_authority(&["activate", "x509"]);
        self.their_authority(&["taint", "x509", &old]);
        until("the certificate of the new authority", || {
            held = self.published(&held);
            self.shows_certificate_of(&new)
        });
    }

    /// FD-07: the first fetch is verified by the bundle that was configured, later ones by the newest that is held.
    pub(super) fn over_a_rotation(&self) {
        let (url, file) = (self.their_url(), self.their_bundle());
        let first = document(&self.theirs);
        self.related(
            &self.spiffe(&url, "spiffe://other.example/spire/server", &file),
            || {
                self.refresh_ok();
                let old = self.their_signing_authority();
                self.their_authority(&["prepare", "x509"]);
                self.refresh_ok();
                let new = keys_of_one_alone(&document(&self.theirs), &first);
                self.their_authority(&["activate", "x509"]);
                self.their_authority(&["taint", "x509", &old]);
                until("the certificate of the new authority", || {
                    self.shows_certificate_of(&new)
                });
                self.their_authority(&["revoke", "x509", &old]);
                assert!(
                    !self.shows_certificate_of(&first),
                    "what was configured vouches for nothing any more"
                );
                self.refresh_ok();
                let now = document(&self.theirs);
                assert_eq!(self.peer()["sequence"], now["spiffe_sequence"]);
            },
        );
    }

    /// The document at the peer's endpoint, which must prove itself by `held`.
    fn published(&self, held: &Value) -> Value {
        let asked = ask(&self.theirs, &bundle(&self.theirs, held), "")
            .expect("an endpoint that proves itself by what was held just before");
        serde_json::from_str(&asked.body).unwrap()
    }

    fn shows_certificate_of(&self, document: &Value) -> bool {
        ask(&self.theirs, &bundle(&self.theirs, document), "").is_ok()
    }

    fn their_authority(&self, args: &[&str]) -> String {
        let words = [&["--output", "json", "authority"], args].concat();
        self.theirs.muster_ok(&words)
    }

    fn their_signing_authority(&self) -> String {
        let shown: Value = serde_json::from_str(&self.their_authority(&["show", "x509"])).unwrap();
        shown["x509"]["active"]["authority_id"]
            .as_str()
            .unwrap()
            .to_owned()
    }
}

/// A document with the keys that stand in `one` and not in `other`.
fn keys_of_one_alone(one: &Value, other: &Value) -> Value {
    let others = other["keys"].as_array().unwrap();
    let mut alone = one.clone();
    alone["keys"]
        .as_array_mut()
        .unwrap()
        .retain(|key| !others.contains(key));
    alone
}
