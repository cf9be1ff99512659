use muster_identity::{Entry, SpiffeId};

use super::{FieldError, SelectorMatch, TrustDomainMatch, id::spiffe_id};
use crate::spire::types;

/// Which entries to list or count: those that every condition holds for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct EntryFilter {
    /// The identity it gives.
    pub spiffe_id: Option<SpiffeId>,
    /// Through whom.
    pub parent_id: Option<SpiffeId>,
    /// What it asks of the caller.
    pub selectors: Option<SelectorMatch>,
    /// Whose bundles come with it.
    pub federates_with: Option<TrustDomainMatch>,
    /// Its hint; the empty text means entries without one.
    pub hint: Option<String>,
    /// Only those that may have an authority of their own. There is no way to ask for the others: SPIRE's
    /// command sends `false` when it means no filter.
    pub downstream: bool,
}

impl EntryFilter {
    /// Whether `entry` is meant.
    pub fn matches(&self, entry: &Entry) -> bool {
        let spec = &entry.spec;
        self.spiffe_id.as_ref().is_none_or(|id| spec.spiffe_id == *id)
            && self.parent_id.as_ref().is_none_or(|id| spec.parent_id == *id)
            && self
                .selectors
                .as_ref()
                .is_none_or(|wanted| wanted.matches(&spec.selectors))
            && self
                .federates_with
                .as_ref()
                .is_none_or(|wanted| wanted.matches(&spec.federates_with))
            && self
                .hint
                .as_ref()
                .is_none_or(|hint| spec.hint.as_ref().map_or("", |held| held.as_str()) == hint)
            && (!self.downstream || spec.downstream)
    }

    fn from_parts(
        by_spiffe_id: Option<&types::Spiffeid>,
        by_parent_id: Option<&types::Spiffeid>,
        by_selectors: Option<&types::SelectorMatch>,
        by_federates_with: Option<&types::FederatesWithMatch>,
        by_hint: Option<&String>,
        by_downstream: Option<bool>,
    ) -> Result<Self, FieldError> {
        Ok(Self {
            spiffe_id: by_spiffe_id
                .map(|id| spiffe_id("by_spiffe_id", Some(id)))
                .transpose()?,
            parent_id: by_parent_id
                .map(|id| spiffe_id("by_parent_id", Some(id)))
                .transpose()?,
            selectors: by_selectors
                .map(|m| SelectorMatch::from_wire("by_selectors", m))
                .transpose()?,
            federates_with: by_federates_with
                .map(|m| TrustDomainMatch::from_wire("by_federates_with", m))
                .transpose()?,
            hint: by_hint.cloned(),
            downstream: by_downstream.unwrap_or(false),
        })
    }
}

/// The contract has one message for each call, alike but for their names.
macro_rules! read_filter {
    ($request:ident) => {
        #[cfg(feature = "spire-server")]
        impl TryFrom<Option<&crate::spire::server::entry::$request::Filter>> for EntryFilter {
            type Error = FieldError;

            fn try_from(
                filter: Option<&crate::spire::server::entry::$request::Filter>,
            ) -> Result<Self, FieldError> {
                let Some(filter) = filter else {
                    return Ok(Self::default());
                };
                Self::from_parts(
                    filter.by_spiffe_id.as_ref(),
                    filter.by_parent_id.as_ref(),
                    filter.by_selectors.as_ref(),
                    filter.by_federates_with.as_ref(),
                    filter.by_hint.as_ref(),
                    filter.by_downstream,
                )
                .map_err(|error| error.within("filter"))
            }
        }
    };
}
read_filter!(count_entries_request);
read_filter!(list_entries_request);

#[cfg(test)]
#[cfg(feature = "spire-server")]
mod tests {
    use super::*;
    use crate::{convert, spire::server::entry::list_entries_request::Filter};

    fn entry() -> Entry {
        let id = |path: &str| types::Spiffeid {
            trust_domain: "example.org".into(),
            path: path.into(),
        };
        convert::entry(&types::Entry {
            id: "one".into(),
            spiffe_id: Some(id("/web")),
            parent_id: Some(id("/node")),
            selectors: vec![types::Selector {
                r#type: "unix".into(),
                value: "uid:0".into(),
            }],
            ..types::Entry::default()
        })
        .unwrap()
    }

    fn matches(filter: &Filter) -> bool {
        EntryFilter::try_from(Some(filter)).unwrap().matches(&entry())
    }

    #[test]
    fn downstream_false_filters_nothing() {
        assert!(matches(&Filter {
            by_downstream: Some(false),
            ..Filter::default()
        }));
        assert!(!matches(&Filter {
            by_downstream: Some(true),
            ..Filter::default()
        }));
    }

    #[test]
    fn every_condition_must_hold() {
        let id = |path: &str| {
            Some(types::Spiffeid {
                trust_domain: "example.org".into(),
                path: path.into(),
            })
        };
        assert!(matches(&Filter {
            by_spiffe_id: id("/web"),
            by_parent_id: id("/node"),
            ..Filter::default()
        }));
        assert!(!matches(&Filter {
            by_spiffe_id: id("/web"),
            by_parent_id: id("/web"),
            ..Filter::default()
        }));
        assert!(matches(&Filter {
            by_hint: Some(String::new()),
            ..Filter::default()
        }));
        assert!(!matches(&Filter {
            by_hint: Some("x".into()),
            ..Filter::default()
        }));
        assert_eq!(EntryFilter::try_from(None::<&Filter>), Ok(EntryFilter::default()));
    }

    #[test]
    fn a_wrong_filter_is_named() {
        let filter = Filter {
            by_selectors: Some(types::SelectorMatch::default()),
            ..Filter::default()
        };
        let error = EntryFilter::try_from(Some(&filter)).unwrap_err();
        assert_eq!(error.field(), "filter.by_selectors");
    }
}
