//! What the store remembers of each key in memory: enough to judge preconditions and to keep count and digest.

use std::collections::HashMap;

use aws_lc_rs::digest::{Context, SHA256};
use muster_identity::Revision;

use super::{Change, Conflict, Expect, Key, Record, Tree};
use crate::side_by_side;

/// 128 bits of SHA-256: keys are told apart by it, so that long names cost no memory.
type KeyHash = u128;

/// Versions and hashes of all records, and per tree the count and the order-free digest.
#[derive(Debug, Default)]
pub(super) struct Index {
    slots: HashMap<KeyHash, Slot>,
    standings: [Standing; Tree::ALL.len()],
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    version: Revision,
    hash: u128,
}

impl Slot {
    fn of(key: &Key, version: Revision, value: &[u8]) -> Self {
        let hash = record_hash(key, version, value);
        Self { version, hash }
    }
}

/// How many records a tree holds, and the wrapping sum of their hashes: equal exactly if the records are.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Standing {
    pub(super) count: u64,
    pub(super) digest: u128,
}

impl Standing {
    fn add(&mut self, slot: &Slot) {
        self.count += 1;
        self.digest = self.digest.wrapping_add(slot.hash);
    }

    fn take(&mut self, slot: &Slot) {
        self.count -= 1;
        self.digest = self.digest.wrapping_sub(slot.hash);
    }
}

impl Index {
    /// The index of these records. For a start: the hashes are made on several processors.
    pub(super) fn of(records: &[Record]) -> Self {
        let hashed = side_by_side::map(records, |record| {
            (
                key_hash(&record.key),
                Slot::of(&record.key, record.version, &record.value),
            )
        });
        let mut index = Self {
            slots: HashMap::with_capacity(records.len()),
            ..Self::default()
        };
        for (record, (key, slot)) in records.iter().zip(hashed) {
            let standing = &mut index.standings[record.key.tree as usize - 1];
            standing.add(&slot);
            if let Some(before) = index.slots.insert(key, slot) {
                standing.take(&before);
            }
        }
        index
    }

    /// Judges groups in order, as if each one that passes were done before the next is looked at, and says which pass.
    /// Nothing is changed.
    pub(super) fn judge(&self, groups: &[Vec<Change>]) -> Vec<Result<(), Conflict>> {
        // What the groups that passed would have made of a key: `Some(true)`: put in this commit.
        let mut pending: HashMap<KeyHash, bool> = HashMap::new();
        let mut outcomes = Vec::with_capacity(groups.len());
        for group in groups {
            let mut own: Vec<(KeyHash, bool)> = Vec::with_capacity(group.len());
            let mut outcome = Ok(());
            for change in group {
                let hash = key_hash(&change.key);
                let earlier = own
                    .iter()
                    .rev()
                    .find(|(key, _)| *key == hash)
                    .map(|(_, there)| *there);
                let earlier = earlier.or_else(|| pending.get(&hash).copied());
                let found = match earlier {
                    // Put or deleted by this very commit: its version is not known yet, so only «absent» and
                    // «any» can be judged, and «at» is false.
                    Some(there) => there.then_some(Revision(u64::MAX)),
                    None => self.slots.get(&hash).map(|slot| slot.version),
                };
                let holds = match change.expect {
                    Expect::Absent => found.is_none(),
                    Expect::At(version) => found == Some(version),
                    Expect::Any => true,
                };
                if !holds {
                    outcome = Err(Conflict {
                        key: change.key.clone(),
                        found,
                    });
                    break;
                }
                own.push((hash, change.value.is_some()));
            }
            if outcome.is_ok() {
                pending.extend(own);
            }
            outcomes.push(outcome);
        }
        outcomes
    }

    /// Does one change that nobody waits for.
    pub(super) fn apply(&mut self, key: &Key, value: Option<&[u8]>, version: Revision) {
        let mut plan = Plan {
            slots: Vec::with_capacity(1),
            standings: self.standings,
        };
        plan.add(self, &mut HashMap::new(), key, value, version);
        self.install(plan);
    }

    /// What the changes will make of the index, so that it can be written down before it is so.
    pub(super) fn plan<'a>(&self, changes: impl Iterator<Item = &'a Change>, version: Revision) -> Plan {
        let mut plan = Plan {
            slots: Vec::new(),
            standings: self.standings,
        };
        let mut ahead = HashMap::new();
        for change in changes {
            plan.add(self, &mut ahead, &change.key, change.value.as_deref(), version);
        }
        plan
    }

    /// Makes a plan true. Nothing may have changed since it was made.
    pub(super) fn install(&mut self, plan: Plan) {
        for (key, slot) in plan.slots {
            match slot {
                Some(slot) => self.slots.insert(key, slot),
                None => self.slots.remove(&key),
            };
        }
        self.standings = plan.standings;
    }

    pub(super) fn standings(&self) -> Standings {
        self.standings
    }
}

/// The standings of all trees, by number.
pub(super) type Standings = [Standing; Tree::ALL.len()];

/// Changes to an [`Index`], not yet made.
#[derive(Debug)]
pub(super) struct Plan {
    slots: Vec<(KeyHash, Option<Slot>)>,
    pub(super) standings: Standings,
}

impl Plan {
    fn add(
        &mut self,
        index: &Index,
        ahead: &mut HashMap<KeyHash, Option<Slot>>,
        key: &Key,
        value: Option<&[u8]>,
        version: Revision,
    ) {
        let hash = key_hash(key);
        let before = ahead
            .get(&hash)
            .copied()
            .unwrap_or_else(|| index.slots.get(&hash).copied());
        let after = value.map(|value| Slot::of(key, version, value));
        let standing = &mut self.standings[key.tree as usize - 1];
        if let Some(before) = &before {
            standing.take(before);
        }
        if let Some(after) = &after {
            standing.add(after);
        }
        ahead.insert(hash, after);
        self.slots.push((hash, after));
    }
}

fn key_hash(key: &Key) -> KeyHash {
    let mut context = Context::new(&SHA256);
    context.update(&[key.tree as u8]);
    context.update(&key.name);
    shorten(context)
}

fn record_hash(key: &Key, version: Revision, value: &[u8]) -> u128 {
    let mut context = Context::new(&SHA256);
    context.update(&[key.tree as u8]);
    context.update(&(key.name.len() as u64).to_le_bytes());
    context.update(&key.name);
    context.update(&version.0.to_le_bytes());
    context.update(value);
    shorten(context)
}

fn shorten(context: Context) -> u128 {
    let digest = context.finish();
    u128::from_le_bytes(digest.as_ref()[..16].try_into().expect("SHA-256 has 32 bytes"))
}
