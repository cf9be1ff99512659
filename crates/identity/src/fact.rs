use std::fmt;
use std::hash::{Hash, Hasher};

use crate::{Selector, SelectorSet};

/// Who measured a fact. The word that operators see in `muster explain` and in the audit log.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum FactSource {
    /// The kernel's word on the peer of a connection.
    Kernel,
    /// The running executable, by an open descriptor of it.
    Executable,
    /// The caller's place in the cgroup hierarchy.
    Cgroup,
    /// The host's user and group database.
    UserDatabase,
    /// The attestation of the node.
    Node,
}

impl fmt::Display for FactSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kernel => "kernel",
            Self::Executable => "executable",
            Self::Cgroup => "cgroup",
            Self::UserDatabase => "user database",
            Self::Node => "node",
        })
    }
}

/// One attested `type:value` about a process, with its source.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Fact {
    selector: Selector,
    source: FactSource,
}

impl Fact {
    /// States a fact. Only attestors do.
    pub fn new(selector: Selector, source: FactSource) -> Self {
        Self { selector, source }
    }

    /// What holds.
    pub fn selector(&self) -> &Selector {
        &self.selector
    }

    /// Who measured it.
    pub fn source(&self) -> FactSource {
        self.source
    }
}

/// Everything that is known of one process. What is not in it satisfies nothing (I7).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Facts {
    facts: Vec<Fact>,
    selectors: SelectorSet,
}

/// By the selectors alone, of which each fact has one: equal facts have equal selectors, and callers are found by this hash at every call.
impl Hash for Facts {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.selectors.hash(state);
    }
}

impl Facts {
    /// The facts, sorted by selector.
    pub fn iter(&self) -> std::slice::Iter<'_, Fact> {
        self.facts.iter()
    }

    /// The facts without their sources.
    pub fn selectors(&self) -> &SelectorSet {
        &self.selectors
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.facts.is_empty()
    }

    /// Whether each of `wanted` is a fact. An empty `wanted` is satisfied by nobody: an entry that asks for nothing
    /// would otherwise belong to everyone.
    pub fn satisfies(&self, wanted: &SelectorSet) -> bool {
        !wanted.is_empty() && wanted.is_subset_of(&self.selectors)
    }

    /// Both together. Attestors add facts; none takes away another's.
    pub fn union(self, other: Facts) -> Facts {
        self.facts.into_iter().chain(other.facts).collect()
    }
}

impl FromIterator<Fact> for Facts {
    fn from_iter<I: IntoIterator<Item = Fact>>(facts: I) -> Self {
        let mut facts: Vec<Fact> = facts.into_iter().collect();
        facts.sort_by(|a, b| a.selector.cmp(&b.selector).then(a.source.cmp(&b.source)));
        facts.dedup_by(|a, b| a.selector == b.selector);
        let selectors = facts.iter().map(|fact| fact.selector.clone()).collect();
        Self { facts, selectors }
    }
}

impl<'a> IntoIterator for &'a Facts {
    type Item = &'a Fact;
    type IntoIter = std::slice::Iter<'a, Fact>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_asks_for_nothing_is_satisfied_by_nobody() {
        let fact = Fact::new("unix:uid:0".parse().unwrap(), FactSource::Kernel);
        let facts: Facts = [fact.clone(), fact].into_iter().collect();
        assert_eq!(facts.iter().count(), 1);
        assert!(!facts.satisfies(&SelectorSet::default()));
        assert!(facts.satisfies(facts.selectors()));
        assert!(!Facts::default().satisfies(facts.selectors()));
    }
}
