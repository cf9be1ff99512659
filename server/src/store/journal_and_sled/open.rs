//! Opening: find a state that is whole, or say exactly what is not.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use muster_identity::{Revision, StoreId};
use muster_journal::{Damage, Journal, OpenError as JournalError, Options, Reserve, Witness, snapshot};

use super::behind::{self, Behind, Pending, Work};
use super::frame::{self, Checkpoint};
use super::tables::Tables;
use super::{JournalAndSled, OpenError, Opened, Settings, State};
use crate::store::index::{Index, Standings};
use crate::store::{Key, Record};

/// Opens the store in `dir`, making it when the folder holds none. Blocks: it reads everything once.
///
/// # Errors
/// [`OpenError::Locked`] for the second server on one folder; [`OpenError::Damaged`] when something acknowledged is
/// lost, with what was found.
pub fn open(dir: &Path, settings: Settings) -> Result<Opened, OpenError> {
    let io = |source| OpenError::Io {
        path: dir.to_owned(),
        source,
    };
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(io)?;
    let reserve = Reserve::new(&dir.join("reserve"), settings.reserve_bytes);
    match attempt(dir, &settings) {
        Err(Failure { full: true, .. }) => {
            // sled and the journal need a little space even to open; the next checkpoint takes the reserve again.
            reserve.release();
            attempt(dir, &settings).map_err(|failure| failure.error)
        }
        attempted => attempted.map_err(|failure| failure.error),
    }
}

struct Failure {
    error: OpenError,
    full: bool,
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        let full = match &error {
            OpenError::Journal(error) => error.is_full(),
            OpenError::Append(error) => matches!(error, muster_journal::AppendError::Full),
            OpenError::Io { source, .. } => source.kind() == std::io::ErrorKind::StorageFull,
            OpenError::Locked(_) | OpenError::Damaged { .. } => false,
        };
        Self { error, full }
    }
}

/// A state as of some revision, from sled or a snapshot; its records are sound, whether they are all is not known.
struct Base {
    name: String,
    checkpoint: Checkpoint,
    records: Vec<Record>,
    /// What a checkpoint that was cut short may have left half-written; only the journal can make it good.
    unsound: Vec<Key>,
}

/// A base with the journal replayed over it, compared and found whole.
struct Whole {
    store: StoreId,
    revision: Revision,
    index: Index,
    records: Vec<Record>,
    /// What the journal says since the base: what a sled of that base still lacks.
    since: Since,
}

fn attempt(dir: &Path, settings: &Settings) -> Result<Opened, Failure> {
    let journal_dir = dir.join("journal");
    let sled_dir = dir.join("sled");
    let mut findings = Vec::new();
    let mut notes = Vec::new();
    let journal = match Journal::open(&journal_dir, Options::default()) {
        Ok(opened) => {
            if let Some(cut) = opened.cut {
                let text = format!("{}: a torn, never acknowledged tail was cut", cut.file.display());
                tracing::info!("{text}");
            }
            Ok(opened.journal)
        }
        Err(JournalError::Damaged(damage)) => Err(damage),
        Err(JournalError::Locked(_)) => return Err(OpenError::Locked(dir.to_owned()).into()),
        Err(error) => return Err(OpenError::Journal(error).into()),
    };
    let mut tables = open_tables(&sled_dir, settings, &mut findings)?;
    let mut bases = Vec::new();
    match tables
        .as_mut()
        .map(|tables| sled_base(tables, journal.as_ref().ok()))
    {
        Some(Ok(Some(base))) => bases.push(base),
        Some(Err(finding)) => findings.push(finding),
        Some(Ok(None)) | None => {}
    }
    let from_sled = bases.len() == 1;
    let fresh = journal
        .as_ref()
        .is_ok_and(|journal| (journal.first(), journal.last()) == (1, 0))
        && bases.is_empty()
        && findings.is_empty()
        && behind::snapshots(dir).is_empty();
    let (journal, whole, base_is_sled, snapshot_due) = match journal {
        Ok(journal) if fresh => {
            let whole = begin(&journal)?;
            (journal, whole, true, false)
        }
        Ok(journal) => {
            let (whole, index) = rebuild(dir, &journal, bases, &mut findings)?;
            (journal, whole, from_sled && index == 0, false)
        }
        Err(damage) => {
            let (whole, index) = salvage(dir, &damage, bases, &mut findings)?;
            let aside = move_aside(&journal_dir)?;
            notes.push(format!(
                "{damage}; nothing is lost; the damaged journal is in {}",
                aside.display()
            ));
            let journal = Journal::open_from(&journal_dir, Options::default(), whole.revision.0 + 1);
            let journal = journal.map_err(OpenError::Journal)?.journal;
            (journal, whole, from_sled && index == 0, true)
        }
    };
    let Whole {
        store,
        revision,
        index,
        records,
        since,
    } = whole;
    let (tables, pending, written) = if base_is_sled && let Some(tables) = tables {
        let written = if since.is_empty() && !fresh {
            revision
        } else {
            Revision(0)
        };
        (tables, since.into_iter().collect(), written)
    } else {
        let unused = tables.as_ref().is_some_and(Tables::is_empty);
        drop(tables);
        if sled_dir.exists() && !unused {
            let aside = move_aside(&sled_dir)?;
            notes.push(format!(
                "sled was damaged and is rebuilt from the journal ({}); the damaged one is in {}",
                findings.join("; "),
                aside.display()
            ));
        }
        let tables = Tables::open(&sled_dir, settings.cache_bytes).map_err(|error| Failure {
            full: error.is_full(),
            error: damaged(dir, vec![format!("a new sled could not be made: {error}")]),
        })?;
        let all: Pending = records
            .iter()
            .map(|record| (record.key.clone(), Some((record.version, record.value.clone()))))
            .collect();
        (tables, all, Revision(0))
    };
    for note in &notes {
        tracing::warn!("{note}");
    }
    let reserve = Reserve::new(&dir.join("reserve"), settings.reserve_bytes);
    if let Err(error) = reserve.ensure() {
        tracing::warn!(%error, "no reserve for a full disk");
    }
    let work = Work {
        dir: dir.to_owned(),
        store,
        journal: journal.clone(),
        tables,
        reserve,
        snapshot_due,
    };
    let standings = index.standings();
    let behind = Behind::start(*settings, work, pending, written, revision, standings).map_err(|source| {
        OpenError::Io {
            path: dir.to_owned(),
            source,
        }
    })?;
    let state = Mutex::new(State { index, revision });
    let store = JournalAndSled {
        id: store,
        journal,
        state,
        turn: tokio::sync::Mutex::default(),
        behind,
    };
    Ok(Opened {
        store,
        records,
        notes,
    })
}

/// `Ok(None)`: there is none that can be used.
fn open_tables(
    dir: &Path,
    settings: &Settings,
    findings: &mut Vec<String>,
) -> Result<Option<Tables>, Failure> {
    match Tables::open(dir, settings.cache_bytes) {
        Ok(tables) => Ok(Some(tables)),
        Err(error) if error.is_full() => Err(Failure {
            error: damaged(dir, vec![error.to_string()]),
            full: true,
        }),
        Err(error) => {
            findings.push(format!("{}: {error}", dir.display()));
            Ok(None)
        }
    }
}

fn sled_base(tables: &mut Tables, journal: Option<&Journal>) -> Result<Option<Base>, String> {
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
fn first_store(journal: &Journal) -> Result<StoreId, String> {
    let first = journal.read(1).map_err(|error| chain(&error))?.next();
    let first = first
        .ok_or("the journal is empty")?
        .map_err(|error| chain(&error))?;
    let store = frame::decode(&first.payload)
        .map_err(|error| error.to_string())?
        .store;
    store.ok_or_else(|| "the journal's first record does not name the store".into())
}

fn snapshot_base(path: &Path) -> Result<Base, String> {
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

/// A new log: its first record names it.
fn begin(journal: &Journal) -> Result<Whole, Failure> {
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
fn rebuild(
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
fn salvage(
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

/// sled first, then the snapshots, newest first; each is read only when its turn comes.
fn candidates(dir: &Path, bases: Vec<Base>) -> impl Iterator<Item = Result<Base, String>> {
    let snapshots = behind::snapshots(dir).into_iter().rev();
    bases
        .into_iter()
        .map(Ok)
        .chain(snapshots.map(|(_, path)| snapshot_base(&path)))
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

fn require_sound(base: &Base, since: &Since) -> Result<(), String> {
    let written_again = |key: &Key| since.iter().any(|(changed, _)| changed == key);
    match base.unsound.iter().find(|key| !written_again(key)) {
        Some(key) => Err(format!("{}: {key} is damaged", base.name)),
        None => Ok(()),
    }
}

fn replay_all(journal: &Journal) -> Result<Whole, String> {
    let store = first_store(journal)?;
    let mut checkpoint = Checkpoint {
        store,
        revision: Revision(0),
        standings: Standings::default(),
    };
    let since = read_frames(journal, 1, &mut checkpoint)?;
    compare(checkpoint, Vec::new(), since, "the journal")
}

type Since = Vec<(Key, Option<(Revision, Vec<u8>)>)>;

/// The last value of each key that changed since; the checkpoint is carried forward by what the frames say.
fn read_frames(journal: &Journal, from: u64, checkpoint: &mut Checkpoint) -> Result<Since, String> {
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
fn compare(checkpoint: Checkpoint, records: Vec<Record>, since: Since, name: &str) -> Result<Whole, String> {
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
    let mut index = Index::default();
    for record in &records {
        index.apply(&record.key, Some(&record.value), record.version);
    }
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

/// Under a name that is free; nothing is ever overwritten.
fn move_aside(path: &Path) -> Result<PathBuf, OpenError> {
    let io = |source| OpenError::Io {
        path: path.to_owned(),
        source,
    };
    for number in 1..1000 {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".damaged-{number}"));
        let aside = PathBuf::from(name);
        if !aside.exists() {
            std::fs::rename(path, &aside).map_err(io)?;
            return Ok(aside);
        }
    }
    Err(io(std::io::Error::other(
        "a thousand damaged copies lie beside it",
    )))
}

fn damaged(dir: &Path, findings: Vec<String>) -> OpenError {
    OpenError::Damaged {
        dir: dir.to_owned(),
        findings,
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
