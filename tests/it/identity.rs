//! Who a process is decides what it gets: uid, path, hash.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use muster_tests::{Cluster, Process, Settings, as_user, binary, need_root};

/// A copy of the Rust client where every user can run it; `more` makes it another binary with the same behaviour.
fn staged(cluster: &Cluster, name: &str, more: &[u8]) -> PathBuf {
    let folder = cluster.path().join("stage");
    fs::create_dir_all(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    let path = folder.join(name);
    fs::copy(binary("rust-client"), &path).unwrap();
    File::options()
        .append(true)
        .open(&path)
        .unwrap()
        .write_all(more)
        .unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn sha256(path: &Path) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &fs::read(path).unwrap());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn fetch(cluster: &Cluster, mut command: Command) -> Result<Vec<String>, String> {
    command
        .arg("fetch-x509")
        .env("SPIFFE_ENDPOINT_SOCKET", cluster.endpoint());
    let process = Process::start("staged client", &mut command);
    let event = process.event_where("an answer", |event| {
        event["event"] == "x509" || event["event"] == "error"
    });
    match event["svids"].as_array() {
        Some(svids) => Ok(svids
            .iter()
            .map(|svid| svid["id"].as_str().unwrap().to_owned())
            .collect()),
        None => Err(event["code"].as_str().unwrap().to_owned()),
    }
}

#[test]
fn host_each_user_gets_its_own_identity_and_others_nothing() {
    if !need_root() {
        return;
    }
    let cluster = Cluster::start(&Settings::default());
    let client = staged(&cluster, "client", b"");
    cluster.register("/one", &["unix:uid:40001"]);
    cluster.register("/two", &["unix:uid:40002", "unix:gid:40002"]);
    assert_eq!(
        fetch(&cluster, as_user(&client, 40001)),
        Ok(vec!["spiffe://example.org/one".into()])
    );
    assert_eq!(
        fetch(&cluster, as_user(&client, 40002)),
        Ok(vec!["spiffe://example.org/two".into()])
    );
    assert_eq!(
        fetch(&cluster, as_user(&client, 40003)),
        Err("PermissionDenied".into())
    );
}

#[test]
fn each_program_gets_its_own_identity_and_others_nothing() {
    let cluster = Cluster::start(&Settings::default());
    let (one, two) = (staged(&cluster, "one", b""), staged(&cluster, "two", b"two"));
    cluster.register("/by-path", &[&format!("unix:path:{}", one.display())]);
    cluster.register("/by-hash", &[&format!("unix:sha256:{}", sha256(&two))]);
    assert_eq!(
        fetch(&cluster, Command::new(&one)),
        Ok(vec!["spiffe://example.org/by-path".into()])
    );
    assert_eq!(
        fetch(&cluster, Command::new(&two)),
        Ok(vec!["spiffe://example.org/by-hash".into()])
    );
    let copy = cluster.path().join("stage/copy");
    fs::copy(&one, &copy).unwrap();
    assert_eq!(
        fetch(&cluster, Command::new(&copy)),
        Err("PermissionDenied".into())
    );
}

#[test]
fn a_program_that_was_replaced_while_it_ran_keeps_what_it_is() {
    let cluster = Cluster::start(&Settings::default());
    let program = staged(&cluster, "program", b"");
    cluster.register("/original", &[&format!("unix:sha256:{}", sha256(&program))]);
    let mut command = Command::new(&program);
    command
        .arg("watch-x509")
        .env("SPIFFE_ENDPOINT_SOCKET", cluster.endpoint());
    let watching = Process::start("running program", &mut command);
    watching.event("x509");
    // An upgrade: the new file takes the name, the running program keeps its own.
    let new = staged(&cluster, "new", b"another");
    fs::rename(&new, &program).unwrap();
    let second = cluster.register("/second", &[&format!("unix:uid:{}", nix::unistd::getuid())]);
    watching.event_where("both identities", |event| {
        event["svids"].as_array().is_some_and(|svids| svids.len() == 2)
    });
    cluster.unregister(&second);
    assert_eq!(
        fetch(&cluster, Command::new(&program)),
        Err("PermissionDenied".into())
    );
}
