//! Federation between trust domains (the SPIFFE Federation standard, FD).
//!
//! ```text
//! configuration, records ─→ Peers ─who, from where→ Refresher ─GET→ the peer's bundle endpoint, or a file
//!                                                      └─document, sequence never back→ log ─→ bundles ─→ nodes ─→ workloads
//! our own bundle ─→ endpoint ─→ whoever asks
//! ```
//!
//! [`refresh`] decides by time alone and touches nothing; [`Refresher`] is the task that carries its orders out, and [`Federation`] the handle on it. A peer that is down, slow or
//! lying costs its own bundle's age and nothing else: each is fetched by itself, within bounds of time and size, and what is held stays until something newer that counts has come.
//!
//! Trusted: the configuration and administrators on who is who (FD 7.2). Not trusted: names and addresses that peers lead us to, every byte of a document; a document
//! counts for the trust domain that it was asked for and for no other (FD 7.3).

mod address;
mod adopt;
pub mod endpoint;
mod fetch;
mod first_bundle;
mod handle;
mod peers;
pub mod refresh;
mod refresher;
mod relationship;
mod status;
mod take;
mod url;

use std::time::Duration;

use http::HeaderName;

pub use address::{AddressRule, ForbiddenAddress};
pub use fetch::Fetcher;
pub(crate) use fetch::{Authentication, FetchError};
pub use first_bundle::{FirstBundleError, take_first_bundles};
pub use handle::{Federation, RefreshError};
pub use peers::{MOST_PEERS, Peer, Peers, recorded};
pub use refresher::Refresher;
pub use relationship::{Profile, Relationship, RelationshipRecordError, Source, scope};
pub use status::{PeerStatus, Statuses};
pub use url::{EndpointUrl, Host, ParseUrlError};

/// Who asks for a bundle, as he says himself: operators of the other side see it. Nothing is decided by it.
const PEER: HeaderName = HeaderName::from_static("muster-peer");
/// The wish to wait for something new, and the word that it is done (RFC 7240).
const PREFER: HeaderName = HeaderName::from_static("prefer");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
/// How long an endpoint may keep us waiting for something new. Below the minute after which middle boxes forget an idle connection.
const HOLD: Duration = Duration::from_secs(50);
