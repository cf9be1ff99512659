//! Processes that show another program than they run. Root makes one that has its owner's rights.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt as _, chown},
    path::PathBuf,
};

use muster_tests::{Cluster, Process, Settings, as_user, binary, need, need_programs, need_root, until};

use super::{attacker_program, earns};

const USER: u32 = 40_071;

/// A copy of one of our programs where every user can run it.
fn staged(cluster: &Cluster, program: &str) -> PathBuf {
    let path = cluster.path().join(program);
    fs::copy(binary(program), &path).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn host_a_user_can_show_any_program_that_he_may_run_but_none_that_lends_rights() {
    if !need_root() {
        return;
    }
    let cluster = Cluster::start(&Settings::default());
    let (attacker, program) = (staged(&cluster, "attacker"), staged(&cluster, "rust-client"));
    cluster.register("/program", &[&format!("unix:path:{}", program.display())]);
    cluster.register("/earned", &[&attacker_program()]);
    earns(&cluster, 1);
    let forge = |mode: u32| {
        fs::set_permissions(&program, Permissions::from_mode(mode)).unwrap();
        let mut command = as_user(&attacker, USER);
        command.arg("forge").arg(cluster.workload_socket()).arg(&program);
        let mut forger = Process::start("forger", &mut command);
        forger.ended();
        forger.said()
    };
    let (forged, won) = (
        |said: &str| said.contains("\"forged\""),
        |said: &str| said.contains("\"svid\""),
    );
    let said = forge(0o755);
    if !need("user namespaces that anybody can make", forged(&said)) {
        return;
    }
    // Nothing tells it from the program: within one user, path and hash are no boundary.
    assert!(won(&said), "{said}");
    for mode in [0o4755, 0o2755, 0o6755] {
        let said = forge(mode);
        assert!(forged(&said) && !won(&said), "{mode:o}: {said}");
    }
    cluster.agent().line("its reason", |line| {
        line.contains("refused") && line.contains("it may only show that file")
    });
}

#[test]
fn host_a_set_id_file_that_lent_its_process_nothing_is_no_fact() {
    if !need_root() || !need_programs(&["setpriv"]) {
        return;
    }
    let cluster = Cluster::start(&Settings::default());
    let program = staged(&cluster, "rust-client");
    cluster.register("/user", &[&format!("unix:uid:{USER}")]);
    cluster.register("/program", &[&format!("unix:path:{}", program.display())]);
    let count = |owner: u32, mode: u32| {
        chown(&program, Some(owner), Some(owner)).unwrap();
        fs::set_permissions(&program, Permissions::from_mode(mode)).unwrap();
        let mut command = as_user("setpriv".as_ref(), USER);
        command
            .arg("--no-new-privs")
            .arg(&program)
            .arg("fetch-x509")
            .env("SPIFFE_ENDPOINT_SOCKET", cluster.endpoint());
        let answer = Process::start("client", &mut command).event_where("an answer", |event| {
            event["event"] == "x509" || event["event"] == "error"
        });
        answer["svids"].as_array().map_or(0, Vec::len)
    };
    until("the entries have reached the agent", || count(0, 0o755) == 2);
    for mode in [0o4755, 0o2755, 0o6755] {
        assert_eq!(count(0, mode), 1, "{mode:o}: the user's alone");
        assert_eq!(
            count(USER, mode),
            2,
            "{mode:o}: his own file lends him nothing new"
        );
    }
}
