use std::path::PathBuf;

use crate::need;

/// The release that `tests/peers/spire` builds, as its folder in the cache is named.
const RELEASE: &str = "spire-1.15.3";

/// Where `tests/run` keeps SPIRE's programs, whether or not they are there.
pub fn spire_folder() -> PathBuf {
    let from = |variable: &str| std::env::var_os(variable).map(PathBuf::from);
    let cache = from("MUSTER_CACHE")
        .or_else(|| from("XDG_CACHE_HOME").map(|cache| cache.join("muster")))
        .or_else(|| from("HOME").map(|home| home.join(".cache/muster")))
        .unwrap_or_default();
    cache.join("peers").join(RELEASE)
}

/// Whether the real SPIRE is here; says so on standard output when it is not.
pub fn spire_is_here() -> bool {
    let here = ["spire-server", "spire-agent"]
        .iter()
        .all(|program| spire_folder().join(program).is_file());
    need("the real SPIRE, which tests/run builds", here)
}
