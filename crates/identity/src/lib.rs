//! SPIFFE names and values: the words every other crate speaks.
//!
//! ```text
//! text from wire, disk, command line ─parse→ TrustDomain, SpiffeId, Selector, Entry … ─Display→ the same text, byte for byte
//! ```
//!
//! Nothing here does IO, reads a clock or knows ASN.1 or JOSE. Every type has private fields and one way in: a
//! parser that refuses what the SPIFFE standards refuse, without trimming, folding or decoding anything. What holds
//! a value of these types may therefore print it, compare it byte by byte and use it as a key.
//!
//! Trusted: nothing. Every input is hostile until parsed. Begin at [`SpiffeId`], then [`Entry`].

mod attributes;
pub mod digest;
mod dns_name;
mod entry;
mod entry_id;
mod fact;
mod grant;
mod hint;
mod path;
mod position;
mod selector;
mod spiffe_id;
mod time;
mod trust_domain;

pub use attributes::Attributes;
pub use dns_name::{DnsName, ParseDnsNameError};
pub use entry::{Entry, EntryError, EntrySpec};
pub use entry_id::{EntryId, ParseEntryIdError};
pub use fact::{Fact, FactSource, Facts};
pub use grant::{
    Grant, GrantError, GrantName, Outside, ParseGrantNameError, ParseVerbError, SelectorTypes, Subject, Verb,
    VerbSet,
};
pub use hint::{Hint, ParseHintError};
pub use path::{IdPath, ParsePathError};
pub use position::{ParseStoreIdError, Position, Revision, StoreId};
pub use selector::{ParseSelectorError, Selector, SelectorSet};
pub use spiffe_id::{ParseIdError, SpiffeId};
pub use time::{Lifetime, UnixTime, ZeroLifetime};
pub use trust_domain::{ParseTrustDomainError, TrustDomain};
