//! A state that is whole: a base with the journal replayed over it, compared with what was written down.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use muster_identity::{Revision, StoreId};
use muster_journal::{Damage, Journal, Witness};

use super::OpenError;
use super::base::{Base, candidates, first_store, require_sound};
use super::frame::{self, Checkpoint};
use super::open::{Failure, chain, damaged};
use crate::store::index::{Index, Standings};
use crate::store::{Key, Record};

/// A base with the journal replayed over it, compared and found whole.
pub(super) struct Whole {
    pub(super) store: StoreId,
    pub(super) revision: Revision,
    pub(super) index: Index,
    pub(super) records: Vec<Record>,
    /// What the journal says since the base: what a sled of that base still lacks.
    pub(super) since: Since,
}

/// A new log: its first record names it.
pub(super) fn begin(journal: &Journal) -> Result<Whole, Failure> {
    let mut id = [0; 16];
    aws_lc_rs::rand::fill(&mut id).map_err(|_| OpenError::Io {
        path: PathBuf::from("the system's random numbers"),
        source: std::io::Error::other("not available"),
    })?;
    let store = StoreId::from_bytes(id);
    let first = frame::encode(Some(store), std::iter::empty(), &Standings::default());
    let position = journal.append(first).wait().map_err(OpenError::Append)?;
    Ok(Whole {
        store,
        revision: Revision(position),
        index: Index::default(),
        records: Vec::new(),
        since: Vec::new(),
    })
}

/// The first base that, with the journal replayed over it, is whole; and which it was.
pub(super) fn rebuild(
    dir: &Path,
    journal: &Journal,
    bases: Vec<Base>,
    findings: &mut Vec<String>,
) -> Result<(Whole, usize), Failure> {
    for (tried, base) in candidates(dir, bases).enumerate() {
        match base.and_then(|base| replay(base, journal)) {
            Ok(whole) => return Ok((whole, tried)),
            Err(finding) => findings.push(finding),
        }
    }
    if journal.first() == 1 && journal.last() >= 1 {
        match replay_all(journal) {
            // One past every base: whatever is in sled, it is not this.
            Ok(whole) => return Ok((whole, usize::MAX)),
            Err(finding) => findings.push(finding),
        }
    } else {
        findings.push(format!("the journal begins at record {} only", journal.first()));
    }
    Err(damaged(dir, std::mem::take(findings)).into())
}

/// With a damaged journal: a base that needs nothing of it, because it is at least as far as anything ever written.
pub(super) fn salvage(
    dir: &Path,
    damage: &Damage,
    bases: Vec<Base>,
    findings: &mut Vec<String>,
) -> Result<(Whole, usize), Failure> {
    findings.push(damage.to_string());
    // Without the witness nobody knows how far the journal got.
    if Witness::read(&dir.join("journal")).is_none() {
        findings.push("the journal's witness is missing or damaged too".into());
        return Err(damaged(dir, std::mem::take(findings)).into());
    }
    for (tried, base) in candidates(dir, bases).enumerate() {
        let compared = base.and_then(|base| {
            if base.checkpoint.revision.0 < damage.written {
                let (at, written) = (base.checkpoint.revision, damage.written);
                return Err(format!(
                    "{} is at revision {at}, the journal got to {written}",
                    base.name
                ));
            }
            require_sound(&base, &Vec::new())?;
            compare(base.checkpoint, base.records, Vec::new(), &base.name)
        });
        match compared {
            Ok(whole) => return Ok((whole, tried)),
            Err(finding) => findings.push(finding),
        }
    }
    Err(damaged(dir, std::mem::take(findings)).into())
}

fn replay(base: Base, journal: &Journal) -> Result<Whole, String> {
    let mut checkpoint = base.checkpoint;
    let (from, name) = (checkpoint.revision.0 + 1, &base.name);
    if from < journal.first() || from > journal.last() + 1 {
        let (first, last) = (journal.first(), journal.last());
        return Err(format!(
            "{name} is at revision {}, the journal holds {first} to {last}",
            from - 1
        ));
    }
    let since = read_frames(journal, from, &mut checkpoint)?;
    require_sound(&base, &since)?;
    compare(checkpoint, base.records, since, name)
}

pub(super) fn replay_all(journal: &Journal) -> Result<Whole, String> {
    let store = first_store(journal)?;
    let mut checkpoint = Checkpoint {
        store,
        revision: Revision(0),
        standings: Standings::default(),
    };
    let since = read_frames(journal, 1, &mut checkpoint)?;
    compare(checkpoint, Vec::new(), since, "the journal")
}

pub(super) type Since = Vec<(Key, Option<(Revision, Vec<u8>)>)>;

/// The last value of each key that changed since; the checkpoint is carried forward by what the frames say.
pub(super) fn read_frames(
    journal: &Journal,
    from: u64,
    checkpoint: &mut Checkpoint,
) -> Result<Since, String> {
    let mut latest = BTreeMap::new();
    for record in journal.read(from).map_err(|error| chain(&error))? {
        let record = record.map_err(|error| chain(&error))?;
        let revision = Revision(record.position);
        let frame = frame::decode(&record.payload).map_err(|error| format!("record {revision}: {error}"))?;
        if frame.store.is_some_and(|store| store != checkpoint.store) {
            return Err(format!(
                "record {revision} is of another store than {}",
                checkpoint.store
            ));
        }
        for (key, value) in frame.changes {
            latest.insert(key, value.map(|value| (revision, value)));
        }
        for (tree, standing) in frame.standings {
            checkpoint.standings[tree as usize - 1] = standing;
        }
        checkpoint.revision = revision;
    }
    Ok(latest.into_iter().collect())
}

/// Puts records and later changes together; whole exactly if every tree has the count and digest that was written down.
pub(super) fn compare(
    checkpoint: Checkpoint,
    records: Vec<Record>,
    since: Since,
    name: &str,
) -> Result<Whole, String> {
    let changed: HashMap<&Key, ()> = since.iter().map(|(key, _)| (key, ())).collect();
    let mut records: Vec<Record> = records
        .into_iter()
        .filter(|record| !changed.contains_key(&record.key))
        .collect();
    drop(changed);
    records.extend(since.iter().filter_map(|(key, value)| {
        let (version, value) = value.clone()?;
        Some(Record {
            key: key.clone(),
            version,
            value,
        })
    }));
    let index = Index::of(&records);
    for tree in crate::store::Tree::ALL {
        let (found, expected) = (
            index.standings()[tree as usize - 1],
            checkpoint.standings[tree as usize - 1],
        );
        if found != expected {
            return Err(format!(
                "{name}: {} records in {}, {} expected{}",
                found.count,
                tree.name(),
                expected.count,
                if found.count == expected.count {
                    ", and their digest differs"
                } else {
                    ""
                }
            ));
        }
    }
    Ok(Whole {
        store: checkpoint.store,
        revision: checkpoint.revision,
        index,
        records,
        since,
    })
}
