//! Files that commands are given: entries, bundles of other trust domains.

use std::{fs, path::Path};

use muster_identity::{Lifetime, TrustDomain, UnixTime};
use muster_pki::{
    bundle::Bundle,
    x509::{RootProfile, ca_subject, issue_root},
};
use muster_tests::Identity;

/// The files, the same for both sides.
pub(super) struct Fixtures(Vec<(&'static str, String)>);

impl Fixtures {
    /// With bundles that are made now.
    pub(super) fn new() -> Self {
        let [other, changed, third] = ["other.test", "other.test", "third.test"].map(bundle);
        Self(vec![
            ("entries.json", ENTRIES.into()),
            ("wrong-entries.json", WRONG_ENTRIES.into()),
            ("ids.json", IDS.into()),
            ("other.pem", other.x509_pem()),
            ("changed.json", changed.to_document()),
            ("third.json", third.to_document()),
            ("relationships.json", RELATIONSHIPS.into()),
        ])
    }

    /// Writes them into `folder`.
    pub(super) fn write(&self, folder: &Path) {
        fs::create_dir_all(folder).unwrap();
        for (name, text) in &self.0 {
            fs::write(folder.join(name), text).unwrap();
        }
    }
}

/// A trust domain with one authority that lives for a day.
fn bundle(name: &str) -> Bundle {
    let trust_domain: TrustDomain = name.parse().unwrap();
    #[expect(clippy::disallowed_methods, reason = "a test may know the time")]
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let profile = RootProfile {
        trust_domain: trust_domain.clone(),
        subject: ca_subject(),
        now: UnixTime::from_secs(now.as_secs().cast_signed()),
        lifetime: Lifetime::from_secs(24 * 60 * 60).unwrap(),
    };
    let authority = issue_root(Identity::key(), &profile).unwrap();
    let mut bundle = Bundle::new(trust_domain);
    bundle.put_x509_authority(authority.authority().clone());
    bundle.set_sequence(Some(7));
    bundle.set_refresh_hint(Some(600));
    bundle
}

/// As `entry create -data` reads them.
const ENTRIES: &str = r#"{ "entries": [
  { "selectors": [{ "type": "unix", "value": "uid:1111" }], "spiffe_id": "spiffe://example.org/file/one",
    "parent_id": "spiffe://example.org/parent", "x509_svid_ttl": 200, "jwt_svid_ttl": 30, "admin": true },
  { "selectors": [{ "type": "unix", "value": "gid:1000" }], "spiffe_id": "spiffe://example.org/file/two",
    "parent_id": "spiffe://example.org/parent", "hint": "second", "entry_id": "from-file" }
] }"#;

/// One that exists, one that nobody may have.
const WRONG_ENTRIES: &str = r#"{ "entries": [
  { "selectors": [{ "type": "unix", "value": "uid:1111" }], "spiffe_id": "spiffe://example.org/file/one",
    "parent_id": "spiffe://example.org/parent" },
  { "selectors": [{ "type": "unix", "value": "uid:1111" }], "spiffe_id": "spiffe://example.org/spire/agent/x",
    "parent_id": "spiffe://example.org/parent" }
] }"#;

/// As `entry delete -file` reads them.
const IDS: &str = r#"{ "ids": ["from-file", "{one}", "not-there"] }"#;

/// As `federation create -data` reads them: one of each profile, and one that no server keeps.
const RELATIONSHIPS: &str = r#"{ "federationRelationships": [
  { "trustDomain": "fourth.test", "bundleEndpointURL": "https://localhost:1/", "bundleEndpointProfile": "https_web" },
  { "trustDomain": "fifth.test", "bundleEndpointURL": "https://localhost:1/", "bundleEndpointProfile": "https_spiffe",
    "endpointSPIFFEID": "spiffe://fifth.test/endpoint" },
  { "trustDomain": "sixth.test", "bundleEndpointURL": "http://localhost:1/", "bundleEndpointProfile": "https_web" }
] }"#;
