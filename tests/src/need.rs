/// Whether what a story needs is here. Says so when it is not, and the story is to return then.
///
/// # Panics
/// As root under `tests/run`, which installs everything: a story that quietly leaves itself out there would count as told.
pub fn need(what: &str, here: bool) -> bool {
    let everything_is_installed = std::env::var_os("MUSTER_TEST_CLIENTS").is_some() && root();
    assert!(
        here || !everything_is_installed,
        "missing: {what}; tests/run as root leaves no story out"
    );
    if !here {
        println!("left out: needs {what}");
    }
    here
}

/// Whether the story runs as root, who alone starts processes of other users, mounts and chooses pids.
pub fn need_root() -> bool {
    need("root", root())
}

/// Whether all `programs` are in the path.
pub fn need_programs(programs: &[&str]) -> bool {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    programs.iter().all(|program| {
        let here = std::env::split_paths(&folders).any(|folder| folder.join(program).is_file());
        need(program, here)
    })
}

fn root() -> bool {
    nix::unistd::geteuid().is_root()
}
