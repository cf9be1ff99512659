use std::{collections::HashMap, sync::Arc};

use muster_identity::EntryId;

use super::messages::FULL;
use crate::registry::{Delta, Registered};

/// What a node says it holds, compared with what it is entitled to, as it comes. Costs the set and no more, however much the node claims: what is not in the set
/// is passed on as a removal and forgotten.
pub(super) struct Comparison {
    /// What the node may hold, with the version that it said it holds.
    held: HashMap<EntryId, Option<u64>>,
    named: usize,
    most: usize,
    strays: Vec<EntryId>,
    size: usize,
}

/// How many entries a node may always say it holds, however few it is entitled to now. One that was entitled to many and is to none must get rid of them.
const MOST_HELD: usize = 200_000;

/// The node named more entries than it can hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("entries: {0} are more than this node can hold")]
pub(super) struct TooMany(usize);

impl Comparison {
    /// With what the node is entitled to now.
    pub(super) fn with(set: &[Arc<Registered>]) -> Self {
        Self {
            held: set
                .iter()
                .map(|registered| (registered.entry.id.clone(), None))
                .collect(),
            named: 0,
            most: MOST_HELD.max(2 * set.len()),
            strays: Vec::new(),
            size: 0,
        }
    }

    /// The node holds this. Answers removals when there are enough for a message.
    pub(super) fn hear(&mut self, id: EntryId, version: u64) -> Result<Option<Vec<EntryId>>, TooMany> {
        self.named += 1;
        if self.named > self.most {
            return Err(TooMany(self.named));
        }
        match self.held.get_mut(&id) {
            Some(held) => *held = Some(version),
            None => {
                self.size += id.as_str().len() + 4;
                self.strays.push(id);
            }
        }
        if self.size < FULL {
            return Ok(None);
        }
        self.size = 0;
        Ok(Some(std::mem::take(&mut self.strays)))
    }

    /// What the node still lacks, and has too much, of `set`: the newest, which may differ from the one compared with. A stray that has come into the set meanwhile is removed
    /// and put again; removals come first.
    pub(super) fn finish(self, set: Vec<Arc<Registered>>) -> Delta {
        let Self { mut held, strays, .. } = self;
        let mut delta = Delta {
            upserts: Vec::new(),
            removals: strays,
        };
        for registered in set {
            if held.remove(&registered.entry.id).flatten() != Some(registered.version.0) {
                delta.upserts.push(registered);
            }
        }
        let gone = held.into_iter().filter(|(_, version)| version.is_some());
        delta.removals.extend(gone.map(|(id, _)| id));
        delta.removals.sort_unstable();
        delta
    }
}

#[cfg(test)]
mod tests {
    use muster_identity::{Attributes, Entry, EntrySpec, Revision, UnixTime};

    use super::*;

    fn id(number: usize) -> EntryId {
        format!("entry-{number}").parse().unwrap()
    }

    fn registered(number: usize, version: u64) -> Arc<Registered> {
        let spec = EntrySpec {
            spiffe_id: "spiffe://example.org/web".parse().unwrap(),
            parent_id: "spiffe://example.org/node".parse().unwrap(),
            selectors: std::iter::once("unix:uid:1".parse().unwrap()).collect(),
            x509_svid_ttl: None,
            jwt_svid_ttl: None,
            federates_with: [].into(),
            dns_names: [].into(),
            admin: false,
            downstream: false,
            store_svid: false,
            expires_at: None,
            hint: None,
            attributes: Attributes::default(),
        };
        Arc::new(Registered {
            entry: Entry {
                id: id(number),
                spec,
                revision_number: 0,
                created_at: UnixTime::EPOCH,
            },
            version: Revision(version),
            x509_version: Revision(version),
            made_by: None,
        })
    }

    fn ids(delta: &Delta) -> (Vec<EntryId>, Vec<EntryId>) {
        let upserts = delta.upserts.iter().map(|upsert| upsert.entry.id.clone());
        (upserts.collect(), delta.removals.clone())
    }

    #[test]
    fn what_lacks_is_old_or_is_too_much_is_told_and_the_rest_is_not() {
        let mut comparison = Comparison::with(&[registered(1, 1), registered(2, 5), registered(3, 3)]);
        for (number, version) in [(1, 1), (2, 4), (9, 1)] {
            assert_eq!(comparison.hear(id(number), version), Ok(None));
        }
        let delta = comparison.finish(vec![registered(1, 1), registered(2, 5), registered(3, 3)]);
        assert_eq!(ids(&delta), (vec![id(2), id(3)], vec![id(9)]));
    }

    #[test]
    fn what_changed_while_the_node_spoke_is_told_as_it_is_now() {
        let mut comparison = Comparison::with(&[registered(1, 1), registered(2, 2)]);
        for (number, version) in [(1, 1), (2, 2), (3, 3)] {
            comparison.hear(id(number), version).unwrap();
        }
        // Meanwhile the second went and the third, which had gone before, came back.
        let delta = comparison.finish(vec![registered(1, 1), registered(3, 3)]);
        assert_eq!(ids(&delta), (vec![id(3)], vec![id(2), id(3)]));
    }

    #[test]
    fn a_node_that_claims_without_end_costs_one_message_and_is_refused() {
        let mut comparison = Comparison::with(&[registered(1, 1)]);
        let (mut removals, mut most) = (0, 0);
        let refused = (2..).find_map(|number| match comparison.hear(id(number), 1) {
            Ok(told) => {
                most = most.max(comparison.size);
                removals += told.map_or(0, |told| told.len());
                None
            }
            Err(TooMany(number)) => Some(number),
        });
        assert_eq!(refused, Some(MOST_HELD + 1));
        assert!(most <= FULL + 64 && removals > MOST_HELD / 2);
    }
}
