use std::{path::PathBuf, process::Command, sync::OnceLock};

use crate::{need, root};

/// The release that `tests/peers/spire` builds, as its folder in the cache is named.
const RELEASE: &str = "spire-1.15.3";

/// Where `tests/run` keeps SPIRE's programs, whether or not they are there.
pub fn spire_folder() -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let find = || {
        let said = Command::new(root().join("tests/cache")).output();
        let cache = said.map(|said| String::from_utf8_lossy(&said.stdout).trim().to_owned());
        PathBuf::from(cache.unwrap_or_default())
            .join("peers")
            .join(RELEASE)
    };
    FOLDER.get_or_init(find).clone()
}

/// Whether the real SPIRE is here; says so on standard output when it is not.
pub fn spire_is_here() -> bool {
    let here = ["spire-server", "spire-agent"]
        .iter()
        .all(|program| spire_folder().join(program).is_file());
    need("the real SPIRE, which tests/run builds", here)
}
