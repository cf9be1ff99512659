//! Where the server's keys live.
//!
//! ```text
//! ca ─generate, load→ KeyManager ─→ Arc<dyn Signer> ─signing pool→ signature
//!                      └ DiskKeys ─pkcs8→ muster-seal ─→ <folder>/<name>.key
//! ```
//!
//! [`MemoryKeys`] forgets its keys with the process: each start of the server then begins with new authorities.
//! [`DiskKeys`] keeps each key in a file of its own, sealed and bound to the trust domain and the key's name.
//!
//! Trusted: the seal. Not trusted: the folder (foreign owners, wider modes, links and changed files are refused). A key
//! is never replaced and never leaves in the clear. Begin at [`DiskKeys::open`].

pub mod disk;
pub mod memory;

pub use disk::DiskKeys;
pub use memory::MemoryKeys;

use muster_pki::{KeyAlgorithm, LocalKey};
use muster_plugin_api::{KeyManagerError, KeyName};

/// Makes a key beside the runtime's threads: a large RSA key takes a second.
async fn make(name: &KeyName, algorithm: KeyAlgorithm) -> Result<LocalKey, KeyManagerError> {
    let made = tokio::task::spawn_blocking(move || LocalKey::generate(algorithm)).await;
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| KeyManagerError::Unavailable {
        what: format!("making key {name}"),
        source,
    };
    made.map_err(|error| failed(error.into()))?
        .map_err(|error| failed(error.into()))
}
