//! Opening: find a state that is whole, or say exactly what is not.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use muster_identity::Revision;
use muster_journal::{Journal, OpenError as JournalError, Options, Reserve};

use super::base::sled_base;
use super::behind::{self, Behind, Pending, Work};
use super::tables::Tables;
use super::whole::{Whole, begin, rebuild, salvage};
use super::{JournalAndSled, OpenError, Opened, Settings, State};

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

pub(super) struct Failure {
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

pub(super) fn damaged(dir: &Path, findings: Vec<String>) -> OpenError {
    OpenError::Damaged {
        dir: dir.to_owned(),
        findings,
    }
}

pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
