//! What was issued is on record, and nobody can change the record unseen (I9).

use std::{fs, path::Path, sync::Arc};

use muster_audit::{Trust, VerifyError, verify};
use muster_key_managers::DiskKeys;
use muster_pki::PublicKey;
use muster_plugin_api::KeyManager as _;
use muster_seal::KeyFile;
use muster_tests::{Cluster, Process, Settings};
use serde_json::Value;

fn uid_selector() -> String {
    format!("unix:uid:{}", nix::unistd::getuid())
}

fn stop(daemon: Process) {
    assert!(daemon.stop().success());
}

/// The key that the server signs its log's checkpoints with, out of its sealed keys.
fn audit_key(cluster: &Cluster) -> PublicKey {
    let folder = cluster.path().join("server/data/keys");
    let seal = Arc::new(KeyFile::open(folder.join("sealing.key")).unwrap());
    let keys = DiskKeys::open(folder, seal, "example.org".parse().unwrap()).unwrap();
    let key = cluster
        .block_on(keys.load(&"audit-log".parse().unwrap()))
        .unwrap()
        .unwrap();
    key.public_key().clone()
}

/// The records of a log, as anybody can read them.
pub(crate) fn records(folder: &Path) -> Vec<Value> {
    let scan = muster_journal::scan(folder, 1).unwrap();
    let frames = scan.records.map(|record| record.unwrap().payload);
    let text: String = frames
        .filter_map(|frame| String::from_utf8(frame[1..].to_vec()).ok())
        .collect();
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

pub(crate) fn recorded<'a>(records: &'a [Value], action: &str) -> Vec<&'a Value> {
    records
        .iter()
        .filter(|record| record["action"] == action)
        .collect()
}

#[test]
fn what_is_handed_out_is_on_record() {
    let mut cluster = Cluster::start(&Settings::default());
    let entry = cluster.register("/audited", &[&uid_selector()]);
    cluster.muster_ok(&["fetch", "x509"]);
    cluster.muster_ok(&["fetch", "jwt", "--audience", "db"]);
    cluster.muster_ok(&["token", "create"]);
    assert!(
        !cluster
            .muster(&[
                "fetch",
                "jwt",
                "--audience",
                "db",
                "--spiffe-id",
                "spiffe://example.org/x"
            ])
            .status
            .success()
    );

    stop(cluster.take_agent());
    stop(cluster.take_server());

    // The server's log is whole and signed to its end, and knows what was signed for whom.
    let log = cluster.path().join("server/data/audit");
    let trust = Trust {
        origin: "example.org/audit".into(),
        keys: vec![audit_key(&cluster)],
        known: None,
    };
    let verified = verify(&log, &trust).unwrap();
    assert_eq!(verified.records, verified.signed);
    let server_records = records(&log);
    assert_eq!(server_records.len() as u64, verified.records);
    for action in ["x509_svid.sign", "jwt_svid.sign"] {
        let signed = recorded(&server_records, action);
        let ours = signed
            .iter()
            .find(|record| record["object"]["name"] == "spiffe://example.org/audited")
            .unwrap();
        assert_eq!(ours["facts"]["entry_id"], entry, "{action}");
        assert_eq!(ours["actor"]["id"], cluster.node(), "{action}");
    }
    assert_eq!(recorded(&server_records, "entry.create").len(), 1);
    assert!(!recorded(&server_records, "token.create").is_empty());
    // The node's log knows to which process it went, and what was refused.
    let node_records = records(&cluster.path().join("agent/data/audit"));
    for action in ["x509_svid.hand_out", "jwt_svid.hand_out"] {
        let handed = recorded(&node_records, action);
        assert_eq!(
            handed[0]["object"]["name"], "spiffe://example.org/audited",
            "{action}"
        );
        assert_eq!(
            handed[0]["actor"]["uid"],
            nix::unistd::getuid().as_raw(),
            "{action}"
        );
    }
    let refused = recorded(&node_records, "call.refuse");
    assert!(refused.iter().all(|record| {
        record["reference"]
            .as_str()
            .is_some_and(|code| code.starts_with("R-"))
    }));
    assert!(!refused.is_empty());

    // The command says the same, with the key that the server laid beside its state and without one.
    let (folder, key) = (
        log.to_str().unwrap(),
        cluster.path().join("server/data/audit-key.pem"),
    );
    let with_key = ["audit", "verify", folder, "--key", key.to_str().unwrap()];
    let whole = |args: &[&str]| -> Value {
        let answer = cluster.muster(&[args, &["--output", "json"]].concat());
        assert!(answer.status.success(), "{answer:?}");
        serde_json::from_slice(&answer.stdout).unwrap()
    };
    let told = whole(&with_key);
    assert_eq!(told["records"], verified.records);
    assert_eq!(told["signed"], verified.records);
    assert_eq!(told["tree_head"], verified.root.to_hex());
    assert!(whole(&with_key[..3])["signed"].is_null());

    // Somebody who may write to the file changes one letter, without the sums of the journal.
    let journal = log.join("journal-00000000000000000001");
    let mut bytes = fs::read(&journal).unwrap();
    let at = bytes
        .windows(20)
        .position(|window| window == b"spiffe://example.org")
        .unwrap();
    bytes[at] = b'S';
    fs::write(&journal, bytes).unwrap();
    assert!(matches!(
        verify(&log, &trust),
        Err(VerifyError::Damaged { .. } | VerifyError::Record { .. })
    ));
    let answer = cluster.muster(&[&with_key[..], &["--output", "json"]].concat());
    assert_eq!(answer.status.code(), Some(1));
    let told: Value = serde_json::from_slice(&answer.stdout).unwrap();
    assert_eq!(told["whole"], false);
    let first = told["first_damaged"].as_u64().unwrap();
    assert!(first < verified.records, "{told}");
    let table = String::from_utf8(cluster.muster(&with_key[..3]).stdout).unwrap();
    assert!(
        table.contains("NOT whole") && table.contains(&first.to_string()),
        "{table}"
    );
}
