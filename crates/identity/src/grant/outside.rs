use crate::{DnsName, Lifetime, SpiffeId, Verb};

/// What lies outside a grant.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Outside {
    /// The grant lacks a verb.
    #[error("it lacks the verb {0}")]
    Verb(Verb),
    /// A SPIFFE ID that its paths don't cover.
    #[error("{0} lies under none of its paths")]
    Path(SpiffeId),
    /// A parent that its parents don't cover.
    #[error("the parent {0} lies under none of its parents")]
    Parent(SpiffeId),
    /// A type of selectors that it does not name.
    #[error("selectors of type {0:?} are not among its types")]
    SelectorType(String),
    /// A DNS name that its domains don't cover.
    #[error("the DNS name {0} lies in none of its domains")]
    DnsName(DnsName),
    /// A lifetime past its cap.
    #[error("a lifetime is over its cap of {} s", .cap.as_secs())]
    Lifetime {
        /// The cap.
        cap: Lifetime,
    },
}
