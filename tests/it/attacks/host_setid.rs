//! A program with its owner's rights, led by somebody else. Root makes one.

use std::{fs, os::unix::fs::PermissionsExt as _};

use muster_tests::{Cluster, Process, Settings, as_user, binary, need_root, rounds};

const USER: u32 = 40_031;

#[test]
fn host_a_setuid_program_gets_neither_its_owners_identity_nor_its_callers() {
    if !need_root() {
        return;
    }
    let cluster = Cluster::start(&Settings::default());
    let program = cluster.path().join("setuid");
    fs::copy(binary("rust-client"), &program).unwrap();
    cluster.register("/root", &["unix:uid:0"]);
    cluster.register("/user", &[&format!("unix:uid:{USER}")]);
    cluster.register("/program", &[&format!("unix:path:{}", program.display())]);
    let fetch = |mode: u32| {
        fs::set_permissions(&program, fs::Permissions::from_mode(mode)).unwrap();
        let mut command = as_user(&program, USER);
        command
            .arg("fetch-x509")
            .env("SPIFFE_ENDPOINT_SOCKET", cluster.endpoint());
        let answer = Process::start("staged client", &mut command);
        answer.event_where("an answer", |event| {
            event["event"] == "x509" || event["event"] == "error"
        })
    };
    muster_tests::until("the entries have reached the agent", || {
        fetch(0o755)["svids"]
            .as_array()
            .is_some_and(|svids| svids.len() == 2)
    });
    let rounds = rounds(5);
    for mode in [0o4755, 0o2755, 0o6755] {
        for _ in 0..rounds {
            let answer = fetch(mode);
            assert_eq!(answer["code"], "PermissionDenied", "{mode:o}: {answer}");
        }
    }
    println!(
        "figure: T-14: {} calls by programs under two users, 0 answered",
        3 * rounds
    );
}
