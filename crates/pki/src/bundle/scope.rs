//! Which names of a foreign trust domain count here.

use std::sync::Arc;

use muster_identity::{IdPath, SpiffeId};

/// The paths that a federated trust domain is narrowed to; usually none, which is all of them.
///
/// It narrows what our own verification accepts. A workload that verifies by itself has the bundle alone and does not see it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Scope {
    prefixes: Option<Arc<[IdPath]>>,
}

/// Why paths are no scope.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ScopeError {
    /// More than anybody reads.
    #[error("a trust domain is narrowed to at most {} path prefixes", Scope::MOST)]
    TooMany,
    /// The empty path is above every other: it would narrow nothing.
    #[error("the empty path narrows nothing")]
    Everything,
}

impl Scope {
    /// The most prefixes.
    pub const MOST: usize = 32;

    /// Every path.
    pub fn all() -> Self {
        Self::default()
    }

    /// The paths that are one of `prefixes` or lie below one, segment by segment; without prefixes, every path.
    ///
    /// # Errors
    /// When there are too many, or one that narrows nothing.
    pub fn new(prefixes: Vec<IdPath>) -> Result<Self, ScopeError> {
        if prefixes.len() > Self::MOST {
            return Err(ScopeError::TooMany);
        }
        if prefixes.iter().any(IdPath::is_root) {
            return Err(ScopeError::Everything);
        }
        let prefixes = (!prefixes.is_empty()).then(|| prefixes.into());
        Ok(Self { prefixes })
    }

    /// Whether an ID of the trust domain counts.
    pub fn covers(&self, id: &SpiffeId) -> bool {
        match &self.prefixes {
            None => true,
            Some(prefixes) => prefixes.iter().any(|prefix| id.path().is_under(prefix)),
        }
    }

    /// The prefixes; none for every path.
    pub fn prefixes(&self) -> &[IdPath] {
        self.prefixes.as_deref().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_covers_whole_segments() {
        let scope = Scope::new(vec!["/pay".parse().unwrap(), "/ship/eu".parse().unwrap()]).unwrap();
        let covers = |id: &str| scope.covers(&id.parse().unwrap());
        assert!(covers("spiffe://b.example/pay") && covers("spiffe://b.example/pay/card"));
        assert!(covers("spiffe://b.example/ship/eu/1"));
        assert!(!covers("spiffe://b.example/payroll") && !covers("spiffe://b.example/ship"));
        assert!(Scope::all().covers(&"spiffe://b.example/anything".parse().unwrap()));
        assert_eq!(Scope::new(Vec::new()), Ok(Scope::all()));
    }

    #[test]
    fn what_narrows_nothing_or_is_too_long_is_refused() {
        assert_eq!(Scope::new(vec![IdPath::root()]), Err(ScopeError::Everything));
        let many = vec!["/a".parse().unwrap(); Scope::MOST + 1];
        assert_eq!(Scope::new(many), Err(ScopeError::TooMany));
    }
}
