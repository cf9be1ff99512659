//! The root above our server is replaced, tainted and revoked, by SPIRE's commands and by ours: SPIRE's agent follows.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use muster_tests::{Settings, binary, spire_is_here, until};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose};
use serde_json::Value;
use time::{Duration, OffsetDateTime};

use super::Joined;

#[test]
fn an_agent_leaves_a_tainted_root_above_our_server_and_verifies_by_the_next_alone_after_its_revocation() {
    if !spire_is_here() {
        return;
    }
    let ca = tempfile::tempdir().unwrap();
    let first = put_root(ca.path(), "first");
    let joined = Joined::start(&below(ca.path()));
    joined.register("/first", &[]);
    joined.until_ids("the identity", &["/first"]);
    assert!(leads_to(&joined, &first));
    let mut all = vec!["/first"];
    for (name, path, hands) in [
        ("second", "/second", Hands::Spires),
        ("third", "/third", Hands::Ours),
    ] {
        let next = put_root(ca.path(), name);
        let node_before = node_serial(&joined);
        let old = hands.rotate(&joined);
        assert!(!hands.judge(&joined, "revoke", &old), "it is not tainted yet");
        assert!(hands.judge(&joined, "taint", &old));
        assert!(!hands.judge(&joined, "taint", &old), "it is tainted");
        assert!(
            !hands.judge(&joined, "taint", &hands.root(&joined)),
            "what signs stands below it"
        );
        until("SVIDs below the next root", || leads_to(&joined, &next));
        // Its own certificate too: an agent that came by a token could not come back.
        until("the node's own certificate anew", || {
            node_serial(&joined) != node_before
        });
        assert!(hands.judge(&joined, "revoke", &old));
        until("the next root alone", || roots(&joined) == Some(1));
        all.push(path);
        joined.register(path, &[]);
        joined.until_ids("what came since", &all);
    }
    until("an SVID", || fetched(&joined).is_some());
    assert!(!leads_to(&joined, &first));
}

/// Whose commands are used.
#[derive(Clone, Copy)]
enum Hands {
    Spires,
    Ours,
}

impl Hands {
    /// Has an authority made below the root of now, and sign. Answers with the root that was above the one before.
    fn rotate(self, joined: &Joined) -> String {
        let old = self.root(joined);
        match self {
            Self::Spires => {
                let tool = joined.home().tool();
                let prepared = tool.run(&["localauthority", "x509", "prepare"]);
                let id = prepared.field("Authority ID").expect("what the command prints");
                tool.ok(&["localauthority", "x509", "activate", "-authorityID", id]);
            }
            Self::Ours => {
                let said = joined.cluster.muster_ok(&["authority", "rotate", "x509"]);
                let next = format!("muster authority taint upstream {old}");
                assert!(said.contains(&next), "{said}");
            }
        }
        assert_ne!(self.root(joined), old);
        old
    }

    /// The subject key id of the root above what signs.
    fn root(self, joined: &Joined) -> String {
        match self {
            Self::Spires => {
                let shown = joined.home().tool().run(&["localauthority", "x509", "show"]);
                let root = shown.field("Upstream authority Subject Key ID");
                root.expect("what the command prints").to_owned()
            }
            Self::Ours => {
                let shown = joined
                    .cluster
                    .muster_ok(&["--output", "json", "authority", "show", "x509"]);
                let shown: Value = serde_json::from_str(&shown).unwrap();
                shown["x509"]["active"]["upstream"].as_str().unwrap().to_owned()
            }
        }
    }

    /// Whether a root can be tainted or revoked.
    fn judge(self, joined: &Joined, verdict: &str, root: &str) -> bool {
        match self {
            Self::Spires => {
                let tool = joined.home().tool();
                let said = tool.run(&["upstreamauthority", verdict, "-subjectKeyID", root]);
                said.status == Some(0)
            }
            Self::Ours => {
                let done = joined.cluster.muster(&["authority", verdict, "upstream", root]);
                done.status.success()
            }
        }
    }
}

fn below(ca: &Path) -> Settings {
    let at = ca.display();
    let server = format!("[upstream_authority.disk]\ncert = '{at}/ca.crt'\nkey = '{at}/ca.key'\n");
    Settings {
        server: server.leak(),
        ..Settings::default()
    }
}

/// Makes a root and puts it where the server looks. Answers with a copy of its certificate.
fn put_root(ca: &Path, name: &str) -> PathBuf {
    let (mut params, now) = (CertificateParams::default(), OffsetDateTime::now_utc());
    params.not_before = now - Duration::hours(1);
    params.not_after = now + Duration::days(30);
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap().pem();
    let copy = ca.join(name);
    fs::write(&copy, &certificate).unwrap();
    // Each whole, the key first, as an operator does it.
    for (file, text) in [("ca.key", key.serialize_pem()), ("ca.crt", certificate)] {
        let new = ca.join("new");
        fs::write(&new, text).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(new, ca.join(file)).unwrap();
    }
    copy
}

fn node_serial(joined: &Joined) -> String {
    let shown = joined
        .home()
        .tool()
        .run(&["agent", "show", "-spiffeID", &joined.node]);
    shown
        .field("Serial number")
        .expect("what the command prints")
        .to_owned()
}

/// Writes what a workload is given. In the moment in which the agent replaces what is tainted there may be nothing.
fn fetched(joined: &Joined) -> Option<tempfile::TempDir> {
    let folder = tempfile::tempdir().unwrap();
    let fetched = Command::new(binary("muster"))
        .args(["fetch", "x509", "--write"])
        .arg(folder.path())
        .env("SPIFFE_ENDPOINT_SOCKET", joined.agent.endpoint())
        .output()
        .unwrap();
    fetched.status.success().then_some(folder)
}

/// How many roots a workload is given.
fn roots(joined: &Joined) -> Option<usize> {
    let bundle = fs::read_to_string(fetched(joined)?.path().join("bundle.0.pem")).unwrap();
    Some(bundle.matches("BEGIN CERTIFICATE").count())
}

/// Whether OpenSSL finds a way from a workload's SVID to `root`.
fn leads_to(joined: &Joined, root: &Path) -> bool {
    let Some(folder) = fetched(joined) else {
        return false;
    };
    let svid = folder.path().join("svid.0.pem");
    let verified = Command::new("openssl")
        .args(["verify", "-x509_strict", "-CAfile"])
        .arg(root)
        .arg("-untrusted")
        .args([&svid, &svid])
        .output()
        .unwrap();
    verified.status.success()
}
