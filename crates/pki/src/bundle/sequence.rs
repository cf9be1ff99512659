//! Which of two versions of a bundle counts (TB 4.1.1; Federation 4.2).

use super::Bundle;

/// What a bundle that was fetched is to the one that is held.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Succession {
    /// The same: nothing to do.
    Same,
    /// A newer one: take it.
    Newer,
    /// Other content under the same number, or without a number: take it, and say so. The owner changed the bundle
    /// without counting, and the later fetch is the better guess.
    Uncounted,
    /// An older one: keep what is held, and say so. It may be a replay of a bundle whose keys were revoked since.
    Older,
}

impl Bundle {
    /// What `fetched` is to this bundle.
    pub fn compare_fetched(&self, fetched: &Self) -> Succession {
        match (self.sequence, fetched.sequence) {
            (Some(held), Some(new)) if new > held => Succession::Newer,
            (Some(held), Some(new)) if new < held => Succession::Older,
            _ if self == fetched => Succession::Same,
            _ => Succession::Uncounted,
        }
    }

    /// This bundle as the successor of `published`, for whoever publishes it: its number is that of `published` when
    /// nothing else changed, else one more. It never falls, whatever number this bundle came with.
    #[must_use]
    pub fn succeed(mut self, published: &Self) -> Self {
        self.sequence = published.sequence;
        if self != *published {
            self.sequence = Some(published.sequence.unwrap_or(0).saturating_add(1));
        }
        self
    }
}
