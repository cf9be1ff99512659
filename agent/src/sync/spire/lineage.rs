//! Whether an older bundle is a straggler or the truth.

use muster_identity::StoreId;
use muster_pki::bundle::{Bundle, Succession};

/// So many polls in a row must bring an older bundle before it is believed: longer than the servers of a trust domain differ among each other, which answer from
/// caches of a second.
const AGREE: u32 = 3;

/// Follows whether bundles go back.
///
/// An older bundle is kept out (I3): it may come from a server that lags behind another one. But a SPIRE server that was restored from a backup counts from an
/// earlier number and says so nowhere; an agent that kept to its own would never learn of an authority again.
#[derive(Debug)]
pub(super) struct Lineage {
    store: StoreId,
    restored: u64,
    older: u32,
}

impl Lineage {
    pub(super) fn new(store: StoreId) -> Self {
        Self {
            store,
            restored: 0,
            older: 0,
        }
    }

    /// In whose name the bundles of a poll are installed. Another name than the last time's: their numbers are not compared with those that are held.
    pub(super) fn judge<'a>(&mut self, pairs: impl Iterator<Item = (&'a Bundle, &'a Bundle)>) -> StoreId {
        let goes_back = pairs
            .into_iter()
            .any(|(held, offered)| held.compare_fetched(offered) == Succession::Older);
        self.older = if goes_back { self.older + 1 } else { 0 };
        if self.older >= AGREE {
            (self.older, self.restored) = (0, self.restored.wrapping_add(1));
        }
        let mut bytes = *self.store.as_bytes();
        for (byte, turn) in bytes.iter_mut().zip(self.restored.to_le_bytes()) {
            *byte ^= turn;
        }
        StoreId::from_bytes(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(sequence: u64) -> Bundle {
        let mut bundle = Bundle::new("example.org".parse().unwrap());
        bundle.set_sequence(Some(sequence));
        bundle
    }

    #[test]
    fn an_older_bundle_is_believed_when_every_server_insists_on_it() {
        let store = StoreId::from_bytes([9; 16]);
        let mut lineage = Lineage::new(store);
        let (held, older, newer) = (bundle(5), bundle(4), bundle(6));
        let mut judge = |offered| lineage.judge([(&held, offered)].into_iter());
        for _ in 0..10 {
            assert_eq!(judge(&older), store);
            assert_eq!(judge(&older), store);
            assert_eq!(judge(&newer), store, "a straggler");
        }
        assert_eq!((judge(&older), judge(&older)), (store, store));
        let restored = judge(&older);
        assert_ne!(restored, store);
        assert_eq!(judge(&newer), restored);
    }
}
