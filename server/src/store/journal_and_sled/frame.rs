//! What a record of the journal, and of a snapshot, says.

use muster_identity::{Revision, StoreId};
use prost::Message;

use crate::store::index::{Standing, Standings};
use crate::store::{Change, Key, Record, Tree};

#[derive(Clone, PartialEq, Message)]
struct FrameRecord {
    /// Only in a log's first frame.
    #[prost(bytes = "vec", tag = "1")]
    store: Vec<u8>,
    #[prost(message, repeated, tag = "2")]
    changes: Vec<ChangeRecord>,
    /// Of the trees that the changes touch, as they are after them.
    #[prost(message, repeated, tag = "3")]
    standings: Vec<StandingRecord>,
}

#[derive(Clone, PartialEq, Message)]
struct ChangeRecord {
    #[prost(uint32, tag = "1")]
    tree: u32,
    #[prost(bytes = "vec", tag = "2")]
    name: Vec<u8>,
    #[prost(bytes = "vec", optional, tag = "3")]
    value: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct StandingRecord {
    #[prost(uint32, tag = "1")]
    tree: u32,
    #[prost(uint64, tag = "2")]
    count: u64,
    #[prost(bytes = "vec", tag = "3")]
    digest: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct CheckpointRecord {
    #[prost(bytes = "vec", tag = "1")]
    store: Vec<u8>,
    #[prost(uint64, tag = "2")]
    revision: u64,
    #[prost(message, repeated, tag = "3")]
    standings: Vec<StandingRecord>,
}

#[derive(Clone, PartialEq, Message)]
struct KeptRecord {
    #[prost(uint32, tag = "1")]
    tree: u32,
    #[prost(bytes = "vec", tag = "2")]
    name: Vec<u8>,
    #[prost(uint64, tag = "3")]
    version: u64,
    #[prost(bytes = "vec", tag = "4")]
    value: Vec<u8>,
}

/// A frame that was read.
pub(super) struct Frame {
    pub(super) store: Option<StoreId>,
    pub(super) changes: Vec<(Key, Option<Vec<u8>>)>,
    pub(super) standings: Vec<(Tree, Standing)>,
}

/// What sled, or a snapshot, says of itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Checkpoint {
    pub(super) store: StoreId,
    pub(super) revision: Revision,
    pub(super) standings: Standings,
}

/// Bytes that mean nothing to this version, though their checksum is right.
#[derive(Debug, thiserror::Error)]
#[error("a record that this version cannot read")]
pub(super) struct Unreadable;

pub(super) fn encode<'a>(
    store: Option<StoreId>,
    changes: impl Iterator<Item = &'a Change>,
    standings: &Standings,
) -> Vec<u8> {
    let mut touched = [false; Tree::ALL.len()];
    let changes = changes.map(|change| {
        touched[change.key.tree as usize - 1] = true;
        ChangeRecord {
            tree: change.key.tree as u32,
            name: change.key.name.to_vec(),
            value: change.value.clone(),
        }
    });
    let changes = changes.collect();
    let changed = Tree::ALL.into_iter().filter(|tree| touched[*tree as usize - 1]);
    let standings = changed.map(|tree| standing_record(tree, standings)).collect();
    let store = store.map_or_else(Vec::new, |store| store.as_bytes().to_vec());
    FrameRecord {
        store,
        changes,
        standings,
    }
    .encode_to_vec()
}

pub(super) fn decode(bytes: &[u8]) -> Result<Frame, Unreadable> {
    let frame = FrameRecord::decode(bytes).map_err(|_| Unreadable)?;
    let store = match frame.store.as_slice() {
        [] => None,
        id => Some(StoreId::try_from(id).map_err(|_| Unreadable)?),
    };
    let changes = frame
        .changes
        .into_iter()
        .map(|change| Ok((Key::new(tree(change.tree)?, change.name), change.value)));
    let changes = changes.collect::<Result<_, _>>()?;
    let standings = frame
        .standings
        .iter()
        .map(read_standing)
        .collect::<Result<_, _>>()?;
    Ok(Frame {
        store,
        changes,
        standings,
    })
}

impl Checkpoint {
    pub(super) fn encode(&self) -> Vec<u8> {
        let standings = Tree::ALL
            .into_iter()
            .map(|tree| standing_record(tree, &self.standings))
            .collect();
        let store = self.store.as_bytes().to_vec();
        CheckpointRecord {
            store,
            revision: self.revision.0,
            standings,
        }
        .encode_to_vec()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        let record = CheckpointRecord::decode(bytes).map_err(|_| Unreadable)?;
        let store = StoreId::try_from(record.store.as_slice()).map_err(|_| Unreadable)?;
        let mut standings = Standings::default();
        for standing in &record.standings {
            let (tree, standing) = read_standing(standing)?;
            standings[tree as usize - 1] = standing;
        }
        Ok(Self {
            store,
            revision: Revision(record.revision),
            standings,
        })
    }
}

pub(super) fn encode_record(record: &Record) -> Vec<u8> {
    let (tree, name) = (record.key.tree as u32, record.key.name.to_vec());
    KeptRecord {
        tree,
        name,
        version: record.version.0,
        value: record.value.clone(),
    }
    .encode_to_vec()
}

pub(super) fn decode_record(bytes: &[u8]) -> Result<Record, Unreadable> {
    let kept = KeptRecord::decode(bytes).map_err(|_| Unreadable)?;
    Ok(Record {
        key: Key::new(tree(kept.tree)?, kept.name),
        version: Revision(kept.version),
        value: kept.value,
    })
}

fn tree(number: u32) -> Result<Tree, Unreadable> {
    u8::try_from(number)
        .ok()
        .and_then(Tree::from_number)
        .ok_or(Unreadable)
}

fn standing_record(tree: Tree, standings: &Standings) -> StandingRecord {
    let standing = standings[tree as usize - 1];
    StandingRecord {
        tree: tree as u32,
        count: standing.count,
        digest: standing.digest.to_le_bytes().to_vec(),
    }
}

fn read_standing(record: &StandingRecord) -> Result<(Tree, Standing), Unreadable> {
    let digest = record.digest.as_slice().try_into().map_err(|_| Unreadable)?;
    Ok((
        tree(record.tree)?,
        Standing {
            count: record.count,
            digest: u128::from_le_bytes(digest),
        },
    ))
}
