//! The Workload API's socket stands where nobody else can put one, and stays there.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    process::Command,
};

use muster_tests::{Cluster, Settings, Workload, binary, need_root, until};

/// Starts the agent, which is to refuse, and answers what it said.
fn refusal(cluster: &Cluster) -> String {
    let output = Command::new(binary("muster-agent"))
        .args(["run", "--config"])
        .arg(cluster.path().join("agent.toml"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let folder = cluster.path().to_str().unwrap();
    assert!(said.contains(folder), "it names what is wrong: {said}");
    said
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn an_agent_whose_sockets_folder_others_can_write_to_does_not_start() {
    let mut cluster = Cluster::start(&Settings::default());
    cluster.take_agent().stop();
    let folder = cluster.path().join("workload");
    for open in [0o777, 0o775, 0o757, 0o1777] {
        mode(&folder, open);
        refusal(&cluster);
    }
    mode(&folder, 0o755);
    let aside = cluster.path().join("aside");
    fs::rename(&folder, &aside).unwrap();
    symlink(&aside, &folder).unwrap();
    refusal(&cluster);
    fs::remove_file(&folder).unwrap();
    fs::rename(&aside, &folder).unwrap();
    cluster.start_agent();
}

#[test]
fn host_an_agent_whose_sockets_folder_is_somebody_elses_does_not_start() {
    if !need_root() {
        return;
    }
    let mut cluster = Cluster::start(&Settings::default());
    cluster.take_agent().stop();
    std::os::unix::fs::chown(cluster.path().join("workload"), Some(1000), Some(1000)).unwrap();
    refusal(&cluster);
}

#[test]
fn host_an_agent_whose_sockets_folder_lies_in_somebody_elses_does_not_start() {
    if !need_root() {
        return;
    }
    let mut cluster = Cluster::start(&Settings::default());
    cluster.take_agent().stop();
    // Root's own folder, which another user may rename.
    let (theirs, folder) = (cluster.path().join("theirs"), cluster.path().join("workload"));
    fs::create_dir(&theirs).unwrap();
    std::os::unix::fs::chown(&theirs, Some(1000), Some(1000)).unwrap();
    let inner = theirs.join("workload");
    fs::rename(&folder, &inner).unwrap();
    let config = cluster.path().join("agent.toml");
    let text = fs::read_to_string(&config).unwrap();
    let moved = text.replace(folder.to_str().unwrap(), inner.to_str().unwrap());
    assert_ne!(text, moved);
    fs::write(&config, &moved).unwrap();
    let said = refusal(&cluster);
    assert!(said.contains(theirs.to_str().unwrap()), "{said}");
    // A link in its place leads where its owner wants.
    let link = cluster.path().join("link");
    fs::rename(&inner, &folder).unwrap();
    symlink(cluster.path(), &link).unwrap();
    let by_link = link.join("workload");
    fs::write(
        &config,
        text.replace(folder.to_str().unwrap(), by_link.to_str().unwrap()),
    )
    .unwrap();
    refusal(&cluster);
    fs::write(&config, text).unwrap();
    cluster.start_agent();
}

#[test]
fn a_place_that_is_taken_and_a_name_without_a_place_are_refused() {
    let mut cluster = Cluster::start(&Settings::default());
    cluster.take_agent().stop();
    let socket = cluster.workload_socket();
    let squatter = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let said = refusal(&cluster);
    assert!(said.contains("in use"), "{said}");
    drop(squatter);
    let config = cluster.path().join("agent.toml");
    let text = fs::read_to_string(&config).unwrap();
    for name in [
        "@workload",
        "\\u0000workload",
        "workload/api.sock",
        "/tmp/../tmp/workload.sock",
        "/",
    ] {
        fs::write(&config, text.replace(socket.to_str().unwrap(), name)).unwrap();
        let output = Command::new(binary("muster-agent"))
            .args(["run", "--config"])
            .arg(&config)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(matches!(output.status.code(), Some(1 | 2)), "{name}: {said}");
        assert!(said.contains("socket"), "{name}: {said}");
    }
    fs::write(&config, text).unwrap();
    cluster.start_agent();
}

#[test]
fn what_is_no_socket_is_not_replaced_by_one() {
    let mut cluster = Cluster::start(&Settings::default());
    cluster.take_agent().stop();
    let socket = cluster.workload_socket();
    let _ = fs::remove_file(&socket);
    fs::write(&socket, "somebody's notes").unwrap();
    refusal(&cluster);
    assert_eq!(fs::read_to_string(&socket).unwrap(), "somebody's notes");
    fs::remove_file(&socket).unwrap();
    nix::unistd::mkfifo(&socket, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    refusal(&cluster);
    fs::remove_file(&socket).unwrap();
    // A socket that a killed agent left is its own.
    cluster.start_agent();
    cluster.take_agent().kill();
    assert!(socket.exists());
    cluster.start_agent();
}

#[test]
fn a_socket_that_was_removed_is_put_back_and_open_streams_live_on() {
    let cluster = Cluster::start(&Settings::default());
    let own = format!("unix:uid:{}", nix::unistd::getuid());
    cluster.register("/first", &[&own]);
    let watching = Workload::Rust.start(&cluster, &["watch-x509"]);
    watching.event("x509");
    fs::remove_file(cluster.workload_socket()).unwrap();
    let removed = std::time::Instant::now();
    until("the socket is back", || cluster.workload_socket().exists());
    println!("figure: a removed socket is back after {:.1?}", removed.elapsed());
    Workload::Rust.start(&cluster, &["fetch-x509"]).event("x509");
    cluster.register("/second", &[&own]);
    watching.event_where("an update on the old stream", |event| {
        event["svids"].as_array().is_some_and(|svids| svids.len() == 2)
    });
}
