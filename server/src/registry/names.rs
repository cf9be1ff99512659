//! The ids of entries by a name that they have in common: a parent, a SPIFFE ID.

use muster_identity::{EntryId, SpiffeId};
use rpds::{HashTrieMapSync, RedBlackTreeSetSync};

/// Names by which entries are found.
pub(super) type IdSets = HashTrieMapSync<SpiffeId, IdSet>;

/// The entries of one name. Most names have one: it costs no set.
#[derive(Clone, Debug)]
pub(super) enum IdSet {
    One(EntryId),
    Many(RedBlackTreeSetSync<EntryId>),
}

impl IdSet {
    pub(super) fn iter(&self) -> Box<dyn Iterator<Item = &EntryId> + Send + '_> {
        match self {
            IdSet::One(id) => Box::new(std::iter::once(id)),
            IdSet::Many(ids) => Box::new(ids.iter()),
        }
    }
}

pub(super) fn join(sets: &mut IdSets, name: &SpiffeId, id: &EntryId) {
    match sets.get_mut(name) {
        None => sets.insert_mut(name.clone(), IdSet::One(id.clone())),
        Some(IdSet::Many(ids)) => ids.insert_mut(id.clone()),
        Some(set) => {
            let IdSet::One(first) = &*set else { return };
            let mut ids = RedBlackTreeSetSync::default();
            ids.insert_mut(first.clone());
            ids.insert_mut(id.clone());
            *set = IdSet::Many(ids);
        }
    }
}

pub(super) fn leave(sets: &mut IdSets, name: &SpiffeId, id: &EntryId) {
    let empty = match sets.get_mut(name) {
        None => false,
        Some(IdSet::One(only)) => only == id,
        Some(IdSet::Many(ids)) => {
            ids.remove_mut(id);
            ids.is_empty()
        }
    };
    if empty {
        sets.remove_mut(name);
    }
}
