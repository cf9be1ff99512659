//! What the stories stand on.

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt as _,
    process::Command,
    sync::mpsc,
};

use muster_tests::{Process, one_builds};

#[test]
fn a_program_that_is_still_open_for_writing_is_started_when_it_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("program");
    fs::copy("/bin/echo", &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let open = File::options().append(true).open(&program).unwrap();
    let mut command = Command::new(&program);
    command.arg("whole");
    std::thread::scope(|scope| {
        let starting = scope.spawn(|| Process::start("program", &mut command));
        // Long enough that it is tried at least once before; were it not, this would prove less, and fail nothing.
        std::thread::sleep(std::time::Duration::from_millis(50));
        drop(open);
        starting.join().unwrap().line("its word", |line| line == "whole");
    });
}

/// Two who come to one lock: the first builds, with this outcome, until the second waits. Whether the second has a build,
/// and how often it built.
fn side_by_side(outcome: bool) -> (bool, usize) {
    let folder = tempfile::tempdir().unwrap();
    let lock = folder.path().join("lock");
    let ((begun, begins), (waits, waiting)) = (mpsc::channel(), mpsc::channel());
    std::thread::scope(|scope| {
        let first = scope.spawn(|| {
            let build = move || {
                begun.send(()).unwrap();
                waiting.recv().unwrap();
                outcome
            };
            one_builds(&lock, || panic!("nobody else is there"), build).unwrap()
        });
        begins.recv().unwrap();
        let mut built = 0;
        let build = || {
            built += 1;
            true
        };
        let second = one_builds(&lock, || waits.send(()).unwrap(), build).unwrap();
        assert_eq!(first.join().unwrap(), outcome);
        (second, built)
    })
}

#[test]
fn who_waits_for_a_build_takes_it_and_builds_when_it_failed() {
    assert_eq!(side_by_side(true), (true, 0));
    assert_eq!(side_by_side(false), (true, 1));
}

#[test]
fn who_comes_later_than_a_build_builds_again() {
    let folder = tempfile::tempdir().unwrap();
    let lock = folder.path().join("lock");
    let alone = || panic!("nobody else is there");
    assert!(one_builds(&lock, alone, || true).unwrap());
    assert!(!one_builds(&lock, alone, || false).unwrap());
}
