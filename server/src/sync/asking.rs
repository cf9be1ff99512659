use std::collections::HashMap;
use std::time::Duration;

use muster_identity::SpiffeId;
use tokio::time::Instant;

/// How long a node counts that asks for the bundle from time to time, as SPIRE's agents do each five seconds. One that asks no more is away.
const COUNTS: Duration = Duration::from_secs(30);

/// How many nodes there may be before those that ask no more are looked for.
const FIRST_SWEEP: usize = 256;

/// Nodes that ask instead of being told, and which bundle each was given last. At most as many as there are attested nodes.
#[derive(Debug, Default)]
pub(super) struct Asking {
    given: HashMap<SpiffeId, (u64, Instant)>,
    /// At how many those are looked for that ask no more.
    sweep_at: usize,
}

impl Asking {
    /// Says whether it is another bundle than the node was given before.
    pub(super) fn given(&mut self, node: &SpiffeId, bundle: u64, now: Instant) -> bool {
        if self.given.len() >= self.sweep_at {
            self.given.retain(|_, (_, at)| now.duration_since(*at) < COUNTS);
            self.sweep_at = (self.given.len() * 2).max(FIRST_SWEEP);
        }
        let before = self.given.insert(node.clone(), (bundle, now));
        before.is_none_or(|(before, _)| before != bundle)
    }

    pub(super) fn all_were_given(&self, bundle: u64, now: Instant) -> bool {
        self.given
            .values()
            .all(|(given, at)| *given >= bundle || now.duration_since(*at) >= COUNTS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asked_is_waited_for_until_it_asks_again_or_is_away() {
        let (mut asking, now) = (Asking::default(), Instant::now());
        let node = |name: &str| -> SpiffeId { format!("spiffe://example.org/{name}").parse().unwrap() };
        assert!(asking.all_were_given(9, now));
        asking.given(&node("a"), 1, now);
        asking.given(&node("b"), 2, now);
        assert!(!asking.all_were_given(2, now));
        assert!(asking.given(&node("a"), 2, now) && !asking.given(&node("a"), 2, now));
        assert!(asking.all_were_given(2, now) && !asking.all_were_given(3, now));
        assert!(asking.all_were_given(3, now + COUNTS));
        for number in 0..2 * FIRST_SWEEP {
            asking.given(&node(&number.to_string()), 1, now + COUNTS);
        }
        assert!(!asking.given.contains_key(&node("b")));
    }
}
