//! The authorities of this server, and everything that they sign.
//!
//! ```text
//! life (when?) ─orders→ keeper ─key, certificate, one commit→ log        handlers ─request→ Ca ─policy→ signing pool ─checked→ SVID
//!                          └──────────── active authority ─────────────────────────┘
//! ```
//!
//! [`life`] decides by time, by command and by whether the connected nodes hold the bundle, and touches nothing. [`Keeper`] is the one task that carries its orders out; the log has every authority's
//! record and the bundle it stands in, changed in one commit. Commands reach it through [`Authorities`]. [`Ca`] holds what is active and signs on the signing pool, within [`Lifetimes`].
//! Keys never leave the key manager; a certificate is read back and held to our own rules before it leaves `muster_pki`.

pub mod life;

mod authorities;
mod foreign_keys;
mod keeper;
mod meter;
mod origin;
mod own_bundle;
mod policy;
mod record;
mod server_svid;
mod sign;
mod upstream;

pub use authorities::{Authorities, CommandError, Commands};
pub(crate) use foreign_keys::{ForeignKeyError, ForeignKeys, Share};
pub use keeper::{Awaited, Keeper, KeeperError, Making, Terms};
pub use meter::CaMeter;
pub(crate) use origin::Origins;
pub(crate) use own_bundle::{change_own_bundle, own_bundle};
pub use policy::{Holder, Lifetimes, OverCap, OverCapError, Tokens, WildcardError, Wildcards};
pub use record::{AuthorityRecord, Kind, RecordError};
pub use server_svid::{ServerSvid, ServerSvidError};
pub use sign::{Ca, JwtRequest, SignError, SignedAuthority, X509Request};
pub use upstream::{Follower, Upstream, UpstreamMeter};
