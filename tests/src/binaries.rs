use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// Where the built daemons and programs lie. They are built once per run if cargo was not asked for them: then
/// `cargo test --workspace` alone is enough.
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
            let built = Command::new(env!("CARGO"))
                .args(["build", "--quiet", "--workspace", "--bins", "--locked"])
                .current_dir(root())
                .status();
            assert!(
                built.is_ok_and(|status| status.success()),
                "building the daemons failed"
            );
        }
        folder
    });
    let path = folder.join(name);
    assert!(path.exists(), "{} was not built", path.display());
    path
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
