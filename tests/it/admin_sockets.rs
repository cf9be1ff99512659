//! The admin sockets: their mode and group say who may come in, the audit log says who came.

use std::{
    os::unix::process::CommandExt as _,
    process::{Command, Output},
};

use muster_tests::{Cluster, Settings, as_user, binary, need_root};

use crate::audit::{recorded, records};

const STRANGER: u32 = 40_021;
const OPERATOR: u32 = 40_022;

#[test]
fn host_an_admin_socket_is_closed_to_users_outside_its_group() {
    if !need_root() {
        return;
    }
    let cluster = Cluster::start(&Settings::default());
    for (words, socket) in [
        (&["token", "create"][..], cluster.server_socket()),
        (&["entry", "list"], cluster.server_socket()),
        (&["log", "level", "--agent", "trace"], cluster.agent_socket()),
    ] {
        let output = muster(&cluster, &mut as_user(&binary("muster"), STRANGER), words);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{words:?}: {said}");
        assert!(said.contains("ermission denied"), "{words:?}: {said}");
        assert!(said.contains(socket.to_str().unwrap()), "which socket: {said}");
    }
    // Nothing of it came as far as the log: the kernel had closed the door.
    let actors: Vec<_> = records(&cluster.path().join("server/data/audit"))
        .into_iter()
        .map(|record| record["actor"]["uid"].clone())
        .collect();
    assert!(!actors.contains(&STRANGER.into()), "{actors:?}");
}

#[test]
fn host_a_member_of_the_group_comes_in_and_the_audit_log_names_its_uid() {
    if !need_root() {
        return;
    }
    let mut cluster = Cluster::start(&Settings::default());
    // The sockets belong to the group of whoever started the daemons.
    let mut operator = Command::new(binary("muster"));
    operator.uid(OPERATOR).gid(nix::unistd::getegid().as_raw());
    let made = muster(&cluster, &mut operator, &["token", "create"]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    assert!(cluster.take_server().stop().success());
    let records = records(&cluster.path().join("server/data/audit"));
    let by: Vec<_> = recorded(&records, "token.create")
        .iter()
        .map(|record| record["actor"]["uid"].clone())
        .collect();
    // The first one is the harness's own, for its node.
    assert_eq!(
        by,
        [
            nix::unistd::getuid().as_raw().into(),
            serde_json::Value::from(OPERATOR)
        ]
    );
}

fn muster(cluster: &Cluster, command: &mut Command, words: &[&str]) -> Output {
    command
        .args(words)
        .env("MUSTER_SERVER_SOCKET", cluster.server_socket())
        .env("MUSTER_AGENT_SOCKET", cluster.agent_socket())
        .output()
        .unwrap()
}
