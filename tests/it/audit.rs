//! What was issued is on record, nobody can change the record unseen, and no secret is where it does not belong (I5, I9,
//! T-44, T-45).

use std::{fs, path::Path, sync::Arc};

use muster_audit::{Trust, VerifyError, verify};
use muster_key_managers::DiskKeys;
use muster_pki::PublicKey;
use muster_plugin_api::KeyManager as _;
use muster_seal::KeyFile;
use muster_tests::{Cluster, Process, Settings};
use nix::sys::signal::Signal;
use serde_json::Value;

fn uid_selector() -> String {
    format!("unix:uid:{}", nix::unistd::getuid())
}

/// Stops a daemon in good order and gives all that it ever said.
fn stop(mut daemon: Process) -> String {
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.ended().success());
    daemon.said()
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
fn records(folder: &Path) -> Vec<Value> {
    let scan = muster_journal::scan(folder, 1).unwrap();
    let frames = scan.records.map(|record| record.unwrap().payload);
    let text: String = frames
        .filter_map(|frame| String::from_utf8(frame[1..].to_vec()).ok())
        .collect();
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

fn recorded<'a>(records: &'a [Value], action: &str) -> Vec<&'a Value> {
    records
        .iter()
        .filter(|record| record["action"] == action)
        .collect()
}

/// Every file below `folder`.
fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries
        .filter(|entry| !entry.file_type().unwrap().is_symlink())
        .flat_map(|entry| match entry.file_type().unwrap().is_dir() {
            true => files(&entry.path()),
            false if entry.file_type().unwrap().is_file() => vec![entry.path()],
            false => vec![],
        })
        .collect()
}

fn holds(bytes: &[u8], secret: &[u8]) -> bool {
    bytes.windows(secret.len()).any(|window| window == secret)
}

#[test]
fn what_is_handed_out_is_on_record_and_no_secret_is_elsewhere() {
    let mut cluster = Cluster::start(&Settings::default());
    let entry = cluster.register("/audited", &[&uid_selector()]);
    let taken = tempfile::tempdir().unwrap();
    cluster.muster_ok(&["fetch", "x509", "--write", taken.path().to_str().unwrap()]);
    let fetched = cluster.muster_ok(&["fetch", "jwt", "--audience", "db", "--output", "json"]);
    let token = serde_json::from_str::<Value>(&fetched).unwrap()[0]["token"]
        .as_str()
        .unwrap()
        .to_owned();
    let unused = cluster.muster_ok(&["token", "create", "--output", "json"]);
    let unused = serde_json::from_str::<Value>(&unused).unwrap()["token"]
        .as_str()
        .unwrap()
        .to_owned();
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

    let (agent, server) = (cluster.take_agent(), cluster.take_server());
    let said = [stop(agent), stop(server)];

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

    // Secrets: the workload's key in all its forms, its token, an unused join token.
    let pem = fs::read_to_string(taken.path().join("svid.0.key")).unwrap();
    let base64: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    use base64::Engine as _;
    let der = base64::engine::general_purpose::STANDARD.decode(&base64).unwrap();
    // The scalar itself: PKCS#8 of a P-256 key has it behind 36 bytes of frame.
    let scalar = &der[36..68];
    let signature = token.rsplit_once('.').unwrap().1;
    let secrets: [(&str, &[u8]); 6] = [
        ("key", &der),
        ("key in base64", base64.as_bytes()),
        ("scalar", scalar),
        ("token", token.as_bytes()),
        ("token's signature", signature.as_bytes()),
        ("join token", unused.as_bytes()),
    ];
    let files = files(cluster.path());
    assert!(files.len() > 8, "{files:?}");
    for file in files {
        let bytes = fs::read(&file).unwrap();
        for (what, secret) in secrets {
            assert!(!holds(&bytes, secret), "the {what} is in {}", file.display());
        }
    }
    for said in said {
        for (what, secret) in secrets {
            assert!(!holds(said.as_bytes(), secret), "the {what} was said");
        }
    }

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
}
