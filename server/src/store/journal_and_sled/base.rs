//! What a state can be built on: sled, or a snapshot.

use std::path::Path;

use muster_identity::{Revision, StoreId};
use muster_journal::{Journal, snapshot};

use super::behind;
use super::frame::{self, Checkpoint};
use super::open::chain;
use super::tables::Tables;
use super::whole::Since;
use crate::store::index::Standings;
use crate::store::{Key, Record};

/// A state as of some revision, from sled or a snapshot; its records are sound, whether they are all is not known.
pub(super) struct Base {
    pub(super) name: String,
    pub(super) checkpoint: Checkpoint,
    pub(super) records: Vec<Record>,
    /// What a checkpoint that was cut short may have left half-written; only the journal can make it good.
    pub(super) unsound: Vec<Key>,
}

/// sled first, then the snapshots, newest first; each is read only when its turn comes.
pub(super) fn candidates(dir: &Path, bases: Vec<Base>) -> impl Iterator<Item = Result<Base, String>> {
    let snapshots = behind::snapshots(dir).into_iter().rev();
    bases
        .into_iter()
        .map(Ok)
        .chain(snapshots.map(|(_, path)| snapshot_base(&path)))
}

pub(super) fn sled_base(tables: &mut Tables, journal: Option<&Journal>) -> Result<Option<Base>, String> {
    let checkpoint = match tables.checkpoint().map_err(|error| error.to_string())? {
        Some(checkpoint) => checkpoint,
        // Killed before the first checkpoint: everything in it is in the journal too.
        None => match journal.map(first_store) {
            Some(Ok(store)) => Checkpoint {
                store,
                revision: Revision(0),
                standings: Standings::default(),
            },
            _ => return Ok(None),
        },
    };
    let (records, unsound) = tables.read_all().map_err(|error| error.to_string())?;
    Ok(Some(Base {
        name: "sled".into(),
        checkpoint,
        records,
        unsound,
    }))
}

/// The store's name, as the journal's very first record has it.
pub(super) fn first_store(journal: &Journal) -> Result<StoreId, String> {
    let first = journal.read(1).map_err(|error| chain(&error))?.next();
    let first = first
        .ok_or("the journal is empty")?
        .map_err(|error| chain(&error))?;
    let store = frame::decode(&first.payload)
        .map_err(|error| error.to_string())?
        .store;
    store.ok_or_else(|| "the journal's first record does not name the store".into())
}

pub(super) fn snapshot_base(path: &Path) -> Result<Base, String> {
    let name = path.display().to_string();
    let read = || {
        let snapshot = snapshot::read(path).map_err(|error| chain(&error))?;
        let (head, rest) = snapshot.records.split_first().ok_or("it is empty")?;
        let checkpoint = Checkpoint::decode(head).map_err(|error| error.to_string())?;
        let records = rest.iter().map(|record| frame::decode_record(record));
        let records = records
            .collect::<Result<_, _>>()
            .map_err(|error| error.to_string())?;
        Ok::<_, String>(Base {
            name: name.clone(),
            checkpoint,
            records,
            unsound: Vec::new(),
        })
    };
    read().map_err(|error| format!("{name}: {error}"))
}

pub(super) fn require_sound(base: &Base, since: &Since) -> Result<(), String> {
    let written_again = |key: &Key| since.iter().any(|(changed, _)| changed == key);
    match base.unsound.iter().find(|key| !written_again(key)) {
        Some(key) => Err(format!("{}: {key} is damaged", base.name)),
        None => Ok(()),
    }
}
