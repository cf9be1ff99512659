//! From wire messages to values that can't be wrong, and back.
//!
//! Everything that arrives is hostile until it has passed here, also what our own server or agent sends: the
//! two may be of different ages, and one of them may have been taken over. A function for each thing reads a
//! message into a checked value or says which field is wrong ([`FieldError`]); the other direction can't fail.
//! Lists are bounded here, because nothing behind this border looks at lengths again.
//!
//! Whether a value is *allowed* (own trust domain, reserved paths, lifetimes over the cap) is for the handler:
//! it knows whose server it is.

mod bundle;
mod entry;
mod entry_filter;
mod field;
#[cfg(feature = "grant")]
mod grant;
mod id;
mod node;
mod node_filter;
#[cfg(feature = "node")]
mod polled;
mod selectors;
mod set_match;
mod status;
mod svid;

pub use bundle::{bundle, bundle_to_wire, jwt_authority, x509_authority};
pub use entry::{entry, entry_id, entry_to_wire, merge_entry, new_entry};
pub use entry_filter::EntryFilter;
pub use field::FieldError;
#[cfg(feature = "grant")]
pub use grant::{grant, grant_to_wire, subject};
pub use id::{spiffe_id, spiffe_id_to_wire, trust_domain};
#[cfg(feature = "node")]
pub use node::{NodeEntry, entry_version, position, position_to_wire};
pub use node_filter::NodeFilter;
#[cfg(feature = "node")]
pub use polled::{polled_entry, usable_bundle};
pub use selectors::{selector_set, selectors_to_wire};
pub use set_match::{SelectorMatch, SetMatch, TrustDomainMatch};
pub use status::{Reason, check_status, denial_reason, denied, item_ok, item_status};
pub use svid::{jwt_svid, jwt_svid_to_wire, x509_svid, x509_svid_to_wire};
