//! What the stories stand on.

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt as _,
    process::Command,
};

use muster_tests::Process;

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
