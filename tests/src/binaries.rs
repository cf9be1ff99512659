use std::{
    fs::{File, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// Where the built daemons and programs lie. They are built once per run if cargo was not asked for them: then
/// `cargo test --workspace` alone is enough. Of test processes that run side by side one builds, and the others wait.
pub fn binary(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let test = std::env::current_exe().expect("the kernel knows our path");
        let folder = test
            .parent()
            .expect("target/<profile>/deps/<test> or target/<profile>/bench");
        let folder = if folder.ends_with("deps") {
            folder.parent().unwrap_or(folder)
        } else {
            folder
        }
        .to_path_buf();
        if std::env::var_os("MUSTER_PREBUILT").is_none() {
            let waits = || println!("another test process is building the daemons");
            let built = one_builds(&folder.join("tests-build.lock"), waits, build);
            assert!(
                built.expect("the folder of our own program can be written to"),
                "building the daemons failed"
            );
        }
        folder
    });
    let path = folder.join(name);
    assert!(path.exists(), "{} was not built", path.display());
    path
}

fn build() -> bool {
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--workspace", "--bins", "--locked"])
        .current_dir(root())
        .status();
    built.is_ok_and(|status| status.success())
}

/// Whether there is a build: of those who come to `lock` at one time, the first builds and the others take what it has
/// built. Who comes later builds again, for the sources may be others; so does who has waited for a build that failed.
///
/// # Errors
/// When the file at `lock` can't be made, locked, read or written.
pub fn one_builds(lock: &Path, waits: impl FnOnce(), build: impl FnOnce() -> bool) -> io::Result<bool> {
    const BUILT: &[u8] = b"built";
    let mut file = File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(lock)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            waits();
            file.lock()?;
            let mut left = Vec::new();
            file.read_to_end(&mut left)?;
            if left == BUILT {
                return Ok(true);
            }
        }
        Err(TryLockError::Error(error)) => return Err(error),
    }
    // What is left by an earlier one says nothing of this one, which may be killed.
    file.set_len(0)?;
    let built = build();
    if built {
        file.rewind()?;
        file.write_all(BUILT)?;
    }
    Ok(built)
}

/// The checkout.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ lies in the checkout")
}

/// The programs of a peer that `tests/run` built, beside the clients; none where it did not.
pub fn peer(name: &str) -> Option<PathBuf> {
    let clients = PathBuf::from(std::env::var_os("MUSTER_TEST_CLIENTS")?);
    let path = clients.parent()?.join("peers").join(name);
    if path.exists() { Some(path) } else { None }
}

/// A client of another project, installed by `tests/run`; none where it was not.
pub fn client(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os("MUSTER_TEST_CLIENTS")?).join(name);
    if path.exists() { Some(path) } else { None }
}
