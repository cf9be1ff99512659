//! Who signs the server's authorities.
//!
//! ```text
//! ca ─AuthorityRequest→ UpstreamAuthority ─→ chain, roots ─tried with a throwaway SVID→ what signs
//!                        ├ Disk   a CA's certificate and key in files
//!                        ├ Spire  a SPIRE or Muster server above: its own SVID by the Workload API, NewDownstreamX509CA, PublishJWTAuthority, GetBundle
//!                        └ Vault  the PKI secrets engine's sign-intermediate over HTTPS
//! ```
//!
//! | | roots between two signatures | tokens |
//! |---|---|---|
//! | [`Disk`] | the files are read again every few seconds | mean nothing to it |
//! | [`Spire`] | the server's bundle is followed, taints and revocations too | published above |
//! | [`Vault`] | as at the last signature | mean nothing to it |
//!
//! Trusted: the files that configuration names, and the server that the Workload API's bundle or the configured CA file vouches for. Not trusted: answers; they
//! are bounded, parsed strictly, and tried by the server before they are used. No secret is kept between two uses. Begin at [`UpstreamConfig::open`].

pub mod disk;
pub mod spire;
pub mod vault;

mod file;

use muster_identity::TrustDomain;
use muster_plugin_api::UpstreamAuthority;

pub use disk::{Disk, DiskConfig};
pub use spire::{Spire, SpireConfig};
pub use vault::{Vault, VaultAuth, VaultConfig};

/// Which upstream authority, and what it is told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum UpstreamConfig {
    /// A CA in files.
    Disk(DiskConfig),
    /// A server above.
    Spire(SpireConfig),
    /// HashiCorp Vault, or whoever speaks its API.
    Vault(VaultConfig),
}

impl UpstreamConfig {
    /// The plugin. Nothing is read or called yet: an upstream that is away does not stop a server whose authorities still count.
    pub fn open(&self, trust_domain: &TrustDomain) -> Box<dyn UpstreamAuthority> {
        let trust_domain = trust_domain.clone();
        match self.clone() {
            Self::Disk(config) => Box::new(Disk::new(config, trust_domain)),
            Self::Spire(config) => Box::new(Spire::new(config, trust_domain)),
            Self::Vault(config) => Box::new(Vault::new(config)),
        }
    }
}
