use std::collections::BTreeSet;

use muster_identity::{SelectorSet, TrustDomain};

use super::{FieldError, field::at_most, id::trust_domain, selectors::selector_set};
use crate::spire::types::{self, federates_with_match, selector_match};

/// How a record's set must stand to the set that was asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SetMatch {
    /// The same.
    Exact,
    /// Not empty, and within it.
    Subset,
    /// Holding at least it.
    Superset,
    /// Sharing something with it.
    Any,
}

/// A filter on the selectors of an entry or node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SelectorMatch {
    wanted: SelectorSet,
    how: SetMatch,
}

impl SelectorMatch {
    /// Reads a filter.
    ///
    /// # Errors
    /// When it names no selector (it would match everything or nothing, and which, nobody could guess), or a
    /// wrong one, or a way to match that we don't know.
    pub fn from_wire(field: &'static str, wire: &types::SelectorMatch) -> Result<Self, FieldError> {
        use selector_match::MatchBehavior;
        if wire.selectors.is_empty() {
            return Err(FieldError::new(
                field,
                "is empty, at least one selector is needed",
            ));
        }
        let how = match MatchBehavior::try_from(wire.r#match) {
            Ok(MatchBehavior::MatchExact) => SetMatch::Exact,
            Ok(MatchBehavior::MatchSubset) => SetMatch::Subset,
            Ok(MatchBehavior::MatchSuperset) => SetMatch::Superset,
            Ok(MatchBehavior::MatchAny) => SetMatch::Any,
            Err(_) => return Err(unknown(field, wire.r#match)),
        };
        Ok(Self {
            wanted: selector_set(field, &wire.selectors)?,
            how,
        })
    }

    /// Whether a record with these selectors is meant.
    pub fn matches(&self, selectors: &SelectorSet) -> bool {
        match self.how {
            SetMatch::Exact => *selectors == self.wanted,
            SetMatch::Subset => !selectors.is_empty() && selectors.is_subset_of(&self.wanted),
            SetMatch::Superset => self.wanted.is_subset_of(selectors),
            SetMatch::Any => selectors.intersects(&self.wanted),
        }
    }

    /// What was asked for, for an index to begin with.
    pub fn wanted(&self) -> (&SelectorSet, SetMatch) {
        (&self.wanted, self.how)
    }
}

/// A filter on the foreign trust domains of an entry.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TrustDomainMatch {
    wanted: BTreeSet<TrustDomain>,
    how: SetMatch,
}

impl TrustDomainMatch {
    /// Reads a filter.
    ///
    /// # Errors
    /// When it names no trust domain, or a wrong one, or a way to match that we don't know.
    pub fn from_wire(field: &'static str, wire: &types::FederatesWithMatch) -> Result<Self, FieldError> {
        use federates_with_match::MatchBehavior;
        if wire.trust_domains.is_empty() {
            return Err(FieldError::new(
                field,
                "is empty, at least one trust domain is needed",
            ));
        }
        at_most(field, &wire.trust_domains, 1_024)?;
        let how = match MatchBehavior::try_from(wire.r#match) {
            Ok(MatchBehavior::MatchExact) => SetMatch::Exact,
            Ok(MatchBehavior::MatchSubset) => SetMatch::Subset,
            Ok(MatchBehavior::MatchSuperset) => SetMatch::Superset,
            Ok(MatchBehavior::MatchAny) => SetMatch::Any,
            Err(_) => return Err(unknown(field, wire.r#match)),
        };
        let wanted = wire
            .trust_domains
            .iter()
            .map(|name| trust_domain(field, name))
            .collect::<Result<_, _>>()?;
        Ok(Self { wanted, how })
    }

    /// Whether a record that federates with these is meant.
    pub fn matches(&self, trust_domains: &[TrustDomain]) -> bool {
        let within = |wanted: &BTreeSet<TrustDomain>| trust_domains.iter().all(|name| wanted.contains(name));
        let holds = |wanted: &BTreeSet<TrustDomain>| wanted.iter().all(|name| trust_domains.contains(name));
        match self.how {
            SetMatch::Exact => within(&self.wanted) && holds(&self.wanted),
            SetMatch::Subset => !trust_domains.is_empty() && within(&self.wanted),
            SetMatch::Superset => holds(&self.wanted),
            SetMatch::Any => trust_domains.iter().any(|name| self.wanted.contains(name)),
        }
    }
}

fn unknown(field: &'static str, behavior: i32) -> FieldError {
    FieldError::new(
        field,
        format_args!("match behavior {behavior} is unknown, expected 0 to 3"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selectors(values: &[&str]) -> Vec<types::Selector> {
        values
            .iter()
            .map(|value| types::Selector {
                r#type: "t".into(),
                value: (*value).into(),
            })
            .collect()
    }

    #[test]
    fn the_four_ways_to_match_are_those_of_sets() {
        for (how, record, expected) in [
            (0, &["a", "b"][..], true),
            (0, &["a"], false),
            (1, &["a"], true),
            (1, &["a", "b"], true),
            (1, &["a", "c"], false),
            (1, &[], false),
            (2, &["a", "b", "c"], true),
            (2, &["a"], false),
            (3, &["b", "c"], true),
            (3, &["c"], false),
        ] {
            let wire = types::SelectorMatch {
                selectors: selectors(&["b", "a"]),
                r#match: how,
            };
            let filter = SelectorMatch::from_wire("by_selectors", &wire).unwrap();
            let set = selector_set("selectors", &selectors(record)).unwrap();
            assert_eq!(filter.matches(&set), expected, "{how} {record:?}");

            let domains = |names: &[&str]| {
                names
                    .iter()
                    .map(|n| n.parse().unwrap())
                    .collect::<Vec<TrustDomain>>()
            };
            let wire = types::FederatesWithMatch {
                trust_domains: vec!["b".into(), "a".into()],
                r#match: how,
            };
            let filter = TrustDomainMatch::from_wire("by_federates_with", &wire).unwrap();
            assert_eq!(filter.matches(&domains(record)), expected, "{how} {record:?}");
        }
    }

    #[test]
    fn a_filter_that_names_nothing_is_refused() {
        let error = SelectorMatch::from_wire("by_selectors", &types::SelectorMatch::default()).unwrap_err();
        assert!(error.to_string().starts_with("by_selectors: is empty"));
        assert!(
            TrustDomainMatch::from_wire("by_federates_with", &types::FederatesWithMatch::default()).is_err()
        );
        let odd = types::SelectorMatch {
            selectors: selectors(&["a"]),
            r#match: 9,
        };
        assert!(SelectorMatch::from_wire("by_selectors", &odd).is_err());
    }
}
