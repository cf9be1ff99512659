//! `muster dev`, as a person starts it in surroundings of any kind.

use std::{path::Path, process::Command};

use muster_tests::{Process, binary};

fn dev(runtime_dir: Option<&str>, more: &[&str]) -> Command {
    let mut command = Command::new(binary("muster"));
    command
        .args(["dev", "--output", "json"])
        .args(more)
        .env_remove("XDG_RUNTIME_DIR");
    if let Some(folder) = runtime_dir {
        command.env("XDG_RUNTIME_DIR", folder);
    }
    command
}

/// Starts it and answers its folder.
fn folder(mut command: Command) -> String {
    let running = Process::start("muster dev", &mut command);
    let ready = running.event_where("its sockets", |event| event["folder"].is_string());
    let folder = ready["folder"].as_str().unwrap().to_owned();
    let socket = ready["workload_api"].as_str().unwrap().to_owned();
    assert!(socket.starts_with(&format!("unix:{folder}/")), "{ready}");
    let fetched = Command::new(binary("muster"))
        .args(["fetch", "x509", "--socket", &socket])
        .output()
        .unwrap();
    assert!(
        fetched.status.success(),
        "{}",
        String::from_utf8_lossy(&fetched.stderr)
    );
    assert!(running.stop().success());
    folder
}

#[test]
fn dev_starts_where_the_users_runtime_folder_is_empty_unset_or_gone() {
    // One after the other: without a runtime folder they share one in /tmp.
    let fallback = format!("/tmp/muster-dev-{}", nix::unistd::getuid());
    let was_there = Path::new(&fallback).exists();
    for runtime_dir in [Some(""), None, Some("/nonexistent/folder"), Some("relative")] {
        assert_eq!(folder(dev(runtime_dir, &[])), fallback, "{runtime_dir:?}");
    }
    if !was_there {
        std::fs::remove_dir_all(&fallback).unwrap();
    }
}

#[test]
fn dev_uses_the_users_runtime_folder_and_one_that_was_named_before_it() {
    let (runtime, named) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let [runtime, named] =
        [&runtime, &named].map(|dir| dir.path().canonicalize().unwrap().display().to_string());
    assert_eq!(folder(dev(Some(&runtime), &[])), format!("{runtime}/muster-dev"));
    assert_eq!(folder(dev(Some(&runtime), &["--dir", &named])), named);
}
