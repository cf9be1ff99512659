//! A disk is full: what can't be recorded does not leave, and nobody needs to restart anything afterwards (I2, I9).

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use muster_proto::spire::{
    server::svid::{MintJwtsvidRequest, svid_client::SvidClient},
    types,
};
use muster_tests::{Cluster, Process, Settings, TRUST_DOMAIN, Workload, need_root, until};
use serde_json::Value;

use crate::audit::records;

/// What each process of the node's story is handed out beside its first identity.
const IDENTITIES: usize = 100;

/// A small file system in memory, unmounted at the end.
struct Small(PathBuf);

impl Small {
    fn mount(at: &Path) -> Self {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=40m,mode=700", "tmpfs"])
            .arg(at)
            .status();
        assert!(mounted.unwrap().success());
        Self(at.to_owned())
    }

    /// Takes all the room that is left.
    fn fill(&self) {
        let mut ballast = File::create(self.0.join("ballast")).unwrap();
        let mut size = 65_536;
        while size > 0 {
            // A short write is a full disk, too.
            if ballast.write_all(&vec![b'x'; size]).is_err() {
                size /= 2;
            }
        }
    }

    fn free(&self) {
        fs::remove_file(self.0.join("ballast")).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Lazily: a daemon may still run when a story has failed.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A cluster whose audit log of one daemon lies on a small disk.
fn cluster(log: &str) -> (Small, Cluster) {
    let mut cluster = Cluster::start(&Settings::default());
    cluster.register("/asks", &[&format!("unix:uid:{}", nix::unistd::getuid())]);
    Workload::Rust.start(&cluster, &["fetch-x509"]).event("x509");
    cluster.take_agent().stop();
    cluster.take_server().stop();
    let log = cluster.path().join(log);
    let aside = log.with_extension("aside");
    fs::rename(&log, &aside).unwrap();
    fs::create_dir(&log).unwrap();
    let small = Small::mount(&log);
    for file in fs::read_dir(&aside).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), log.join(file.file_name())).unwrap();
    }
    cluster.start_server();
    cluster.start_agent();
    (small, cluster)
}

#[test]
fn host_a_server_that_cannot_record_signs_nothing_and_recovers_by_itself() {
    if !need_root() {
        return;
    }
    let (small, cluster) = cluster("server/data/audit");
    let mint =
        |round: u32| cluster.muster(&["mint", "x509", &format!("spiffe://example.org/minted/{round}")]);
    assert!(mint(0).status.success());
    small.fill();
    let mut signed = 1;
    // What room the log has taken ahead is used up first; by a caller that starts no process for each.
    cluster.block_on(async {
        let mut client = SvidClient::new(cluster.channel().await);
        while client.mint_jwtsvid(token(signed)).await.is_ok() {
            signed += 1;
            assert!(
                signed < 40_000,
                "the disk is full, and everything is recorded all the same"
            );
        }
    });
    let refused = mint(signed);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.to_lowercase().contains("audit"), "it says why: {said}");
    assert!(!cluster.muster(&["token", "create"]).status.success());
    small.free();
    until("it signs again", || {
        let again = mint(signed).status.success();
        signed += u32::from(again);
        again
    });
    let recorded = |name: &Value| name.as_str().is_some_and(|name| name.contains("/minted/"));
    let records = records(&small.0);
    let minted = records
        .iter()
        .filter(|record| recorded(&record["object"]["name"]) && record["outcome"] == "done");
    println!(
        "figure: server's audit disk full: {signed} signatures left, {} on record",
        minted.clone().count()
    );
    assert!(
        minted.count() >= signed as usize,
        "a signature left without a record"
    );
}

#[test]
fn host_a_node_that_cannot_record_hands_nothing_out_and_recovers_by_itself() {
    if !need_root() {
        return;
    }
    let (small, cluster) = cluster("agent/data/audit");
    let fetch = || {
        let process = Workload::Rust.start(&cluster, &["fetch-x509"]);
        answer(&process)
    };
    // Many records for each process, so that few processes use up what room the log has taken ahead.
    let asks = format!("unix:uid:{}", nix::unistd::getuid());
    for number in 0..IDENTITIES {
        cluster.register(&format!("/asks/{number}"), &[&asks]);
    }
    until("all of them are signed", || {
        fetch()["svids"].as_array().map_or(0, Vec::len) > IDENTITIES
    });
    small.fill();
    let mut served = 0;
    // Each new process is a first hand-out, which is recorded before it leaves.
    while fetch()["event"] == "x509" {
        served += 1;
        assert!(
            served < 1_000,
            "the disk is full, and everything is recorded all the same"
        );
    }
    small.free();
    let freed = Instant::now();
    until("it serves again", || fetch()["event"] == "x509");
    println!(
        "figure: node's audit disk full: {served} processes served from the room it had, none afterwards; again {:.1?} \
         after there was room",
        freed.elapsed()
    );
}

fn token(round: u32) -> MintJwtsvidRequest {
    MintJwtsvidRequest {
        id: Some(types::Spiffeid {
            trust_domain: TRUST_DOMAIN.into(),
            path: format!("/minted/{round}"),
        }),
        audience: vec!["db".into()],
        ttl: 60,
    }
}

fn answer(process: &Process) -> Value {
    process.event_where("an answer", |event| {
        event["event"] == "x509" || event["event"] == "error"
    })
}
