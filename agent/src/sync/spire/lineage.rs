//! Whether an older bundle is a straggler or the truth.

use std::collections::{BTreeMap, BTreeSet};

use muster_identity::TrustDomain;
use muster_pki::bundle::{Bundle, Succession};

/// So many polls in a row must bring an older bundle before it is believed: longer than the servers of a trust domain differ among each other, which answer from
/// caches of a second.
const AGREE: u32 = 3;

/// Follows whether bundles go back, each trust domain's for itself.
///
/// An older bundle is kept out (I3): it may come from a server that lags behind another one. But a SPIRE server that was restored from a backup counts from an
/// earlier number and says so nowhere; an agent that kept to its own would never learn of an authority again. One trust domain's restored bundle says nothing of
/// another's straggler.
#[derive(Debug, Default)]
pub(super) struct Lineage {
    /// How many polls in a row brought an older bundle.
    older: BTreeMap<TrustDomain, u32>,
}

impl Lineage {
    /// Takes in each bundle of a poll beside the one that is held. Answers with the trust domains whose numbers begin anew.
    pub(super) fn judge<'a>(
        &mut self,
        pairs: impl Iterator<Item = (&'a Bundle, &'a Bundle)>,
    ) -> BTreeSet<TrustDomain> {
        let before = std::mem::take(&mut self.older);
        let mut restored = BTreeSet::new();
        for (held, offered) in pairs {
            if held.compare_fetched(offered) != Succession::Older {
                continue;
            }
            let name = held.trust_domain();
            let older = before.get(name).map_or(1, |older| older + 1);
            if older >= AGREE {
                restored.insert(name.clone());
            } else {
                self.older.insert(name.clone(), older);
            }
        }
        restored
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(name: &str, sequence: u64) -> Bundle {
        let mut bundle = Bundle::new(name.parse().unwrap());
        bundle.set_sequence(Some(sequence));
        bundle
    }

    #[test]
    fn an_older_bundle_is_believed_when_every_server_insists_on_it() {
        let mut lineage = Lineage::default();
        let [held, older, newer] = [5, 4, 6].map(|sequence| bundle("example.org", sequence));
        let mut judge = |offered| lineage.judge([(&held, offered)].into_iter());
        let (kept_out, believed) = (BTreeSet::new(), BTreeSet::from([held.trust_domain().clone()]));
        for _ in 0..10 {
            assert_eq!(judge(&older), kept_out);
            assert_eq!(judge(&older), kept_out);
            assert_eq!(judge(&newer), kept_out, "a straggler");
        }
        let judged = [judge(&older), judge(&older), judge(&older)];
        assert_eq!(judged, [kept_out.clone(), kept_out.clone(), believed]);
        assert_eq!(judge(&newer), kept_out);
    }

    #[test]
    fn a_restored_bundle_of_one_trust_domain_lets_in_no_straggler_of_another() {
        let mut lineage = Lineage::default();
        let own = [5, 4].map(|sequence| bundle("example.org", sequence));
        let other = [9, 2].map(|sequence| bundle("other.org", sequence));
        let mut judge = |pairs: &[&[Bundle; 2]]| lineage.judge(pairs.iter().map(|pair| (&pair[0], &pair[1])));
        // Each poll in which one of both is older counts for that one alone.
        assert_eq!(judge(&[&other]), BTreeSet::new());
        assert_eq!(judge(&[&other]), BTreeSet::new());
        let judged = judge(&[&own, &other]);
        assert_eq!(judged, BTreeSet::from([other[0].trust_domain().clone()]));
        assert_eq!(judge(&[&own]), BTreeSet::new());
        assert_eq!(judge(&[&own]), BTreeSet::from([own[0].trust_domain().clone()]));
    }
}
