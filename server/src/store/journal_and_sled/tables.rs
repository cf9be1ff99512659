//! sled, with what it lacks: a checksum on each record, small values only, real syncs, and panics caught.
//!
//! A record is one or more chunks under `name ++ chunk number (u16, big endian)`; chunk 0 begins with
//! `version u64 | CRC32C u32 | chunks u16`. sled spills values over 8 KiB into files that it never reclaims and that a
//! power cut loses, so no chunk comes near that.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use muster_identity::Revision;

use super::frame::Checkpoint;
use crate::store::{Key, Record, Tree};

/// How long a lock on sled is waited for, and how often it is looked at.
const LOCK_WITHIN: Duration = Duration::from_secs(10);
const LOCK_LOOK: Duration = Duration::from_millis(10);

const CHUNK: usize = 7000;
const HEAD: usize = 14;
const META: &str = "meta";
const CHECKPOINT: &[u8] = b"checkpoint";

/// The opened database.
pub(super) struct Tables {
    path: PathBuf,
    db: sled::Db,
    meta: sled::Tree,
    trees: Vec<sled::Tree>,
    /// How many chunks the records have that have more than one.
    long: HashMap<Key, u16>,
}

/// What is wrong with the database.
#[derive(Debug, thiserror::Error)]
pub(super) enum TablesError {
    #[error("sled: {0}")]
    Sled(#[from] sled::Error),
    #[error("sled panicked: {0}")]
    Panic(String),
    #[error("{} is damaged", .0)]
    Record(String),
    #[error("syncing {}", path.display())]
    Sync { path: PathBuf, source: io::Error },
}

impl TablesError {
    pub(super) fn is_full(&self) -> bool {
        let full = |error: &io::Error| {
            matches!(
                error.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            )
        };
        match self {
            TablesError::Sled(sled::Error::Io(error)) => full(error),
            TablesError::Sync { source, .. } => full(source),
            _ => false,
        }
    }
}

/// sled answers some damage with a panic; here it becomes an error like any other.
fn guarded<T>(work: impl FnOnce() -> Result<T, TablesError>) -> Result<T, TablesError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        Err(TablesError::Panic(text.chars().take(200).collect()))
    })
}

/// Opens sled, and waits for its lock. The journal's lock is ours, so no other server is at work here: what holds sled's is on its way out, such as the threads of
/// a sled that was let go, or a child that has our descriptors until it becomes another program. To call that damage would move a good sled aside.
fn open_when_free(config: &sled::Config) -> sled::Result<sled::Db> {
    let end = Instant::now() + LOCK_WITHIN;
    loop {
        match config.open() {
            Err(sled::Error::Io(error)) if is_locked(&error) && Instant::now() < end => {
                std::thread::sleep(LOCK_LOOK);
            }
            opened => return opened,
        }
    }
}

/// sled tells it by its words alone.
fn is_locked(error: &io::Error) -> bool {
    error.to_string().contains("could not acquire lock")
}

impl Tables {
    pub(super) fn open(path: &Path, cache_bytes: u64) -> Result<Self, TablesError> {
        guarded(|| {
            let config = sled::Config::default();
            // No flusher of its own: when data go to the disk is decided here.
            let config = config.path(path).cache_capacity(cache_bytes).flush_every_ms(None);
            let db = open_when_free(&config)?;
            let meta = db.open_tree(META)?;
            let trees = Tree::ALL.iter().map(|tree| db.open_tree(tree.name()));
            let trees = trees.collect::<Result<_, _>>()?;
            Ok(Self {
                path: path.to_owned(),
                db,
                meta,
                trees,
                long: HashMap::new(),
            })
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.trees.iter().all(sled::Tree::is_empty)
    }

    pub(super) fn checkpoint(&self) -> Result<Option<Checkpoint>, TablesError> {
        guarded(|| {
            let Some(bytes) = self.meta.get(CHECKPOINT)? else {
                return Ok(None);
            };
            let damaged = || TablesError::Record("the checkpoint".into());
            let (crc, body) = bytes.split_first_chunk::<4>().ok_or_else(damaged)?;
            if u32::from_le_bytes(*crc) != crc32c(body) {
                return Err(damaged());
            }
            Checkpoint::decode(body).map(Some).map_err(|_| damaged())
        })
    }

    /// Every record, checked one by one, and the keys of those that are not sound. That none is missing only the
    /// standings can tell.
    pub(super) fn read_all(&mut self) -> Result<(Vec<Record>, Vec<Key>), TablesError> {
        let (trees, long) = (&self.trees, &mut self.long);
        guarded(|| {
            let (mut records, mut unsound) = (Vec::new(), Vec::new());
            for (kind, tree) in Tree::ALL.into_iter().zip(trees) {
                for item in tree.iter() {
                    let (key, first) = item?;
                    let damaged = || TablesError::Record(format!("{}/{}", kind.name(), key.escape_ascii()));
                    let (name, chunk) = key.split_last_chunk::<2>().ok_or_else(damaged)?;
                    if *chunk != [0, 0] {
                        continue;
                    }
                    let key = Key::new(kind, name);
                    let Some(record) = read(tree, &key, &first)? else {
                        unsound.push(key);
                        continue;
                    };
                    let chunks = u16::from_le_bytes([first[12], first[13]]);
                    if chunks > 1 {
                        long.insert(key, chunks);
                    }
                    records.push(record);
                }
            }
            Ok((records, unsound))
        })
    }

    /// Writes changes, then the checkpoint that says so; each half is on the disk before the next begins.
    pub(super) fn write<'a>(
        &mut self,
        changes: impl Iterator<Item = (&'a Key, Option<(Revision, &'a [u8])>)>,
        checkpoint: &Checkpoint,
    ) -> Result<(), TablesError> {
        guarded(|| {
            for (key, value) in changes {
                self.put(key, value)?;
            }
            self.sync()?;
            let body = checkpoint.encode();
            let mut bytes = crc32c(&body).to_le_bytes().to_vec();
            bytes.extend(body);
            self.meta.insert(CHECKPOINT, bytes)?;
            self.sync()
        })
    }

    fn put(&mut self, key: &Key, value: Option<(Revision, &[u8])>) -> Result<(), TablesError> {
        let tree = &self.trees[key.tree as usize - 1];
        let mut written = 0u16;
        if let Some((version, payload)) = value {
            let first = payload.len().min(CHUNK - HEAD);
            let rest = payload[first..].chunks(CHUNK);
            let chunks = u16::try_from(1 + rest.len()).expect("a value of 1 MiB has 150 chunks");
            let mut head = Vec::with_capacity(HEAD + first);
            head.extend_from_slice(&version.0.to_le_bytes());
            head.extend_from_slice(&checksum(key, version, payload).to_le_bytes());
            head.extend_from_slice(&chunks.to_le_bytes());
            head.extend_from_slice(&payload[..first]);
            tree.insert(chunk_key(key, 0), head)?;
            for (number, chunk) in (1..).zip(rest) {
                tree.insert(chunk_key(key, number), chunk)?;
            }
            written = chunks;
        }
        let before = self.long.remove(key).unwrap_or(1);
        for number in written..before {
            tree.remove(chunk_key(key, number))?;
        }
        if written > 1 {
            self.long.insert(key.clone(), written);
        }
        Ok(())
    }

    /// sled's flush only hands the data to the kernel; the sync of its file is ours.
    fn sync(&self) -> Result<(), TablesError> {
        self.db.flush()?;
        let path = self.path.join("db");
        let io = |source| TablesError::Sync {
            path: path.clone(),
            source,
        };
        File::open(&path).and_then(|file| file.sync_data()).map_err(io)?;
        File::open(&self.path)
            .and_then(|folder| folder.sync_all())
            .map_err(io)
    }
}

fn read(tree: &sled::Tree, key: &Key, first: &[u8]) -> Result<Option<Record>, TablesError> {
    let Some((head, payload)) = first.split_first_chunk::<HEAD>() else {
        return Ok(None);
    };
    let version = Revision(u64::from_le_bytes(head[..8].try_into().expect("eight bytes")));
    let crc = u32::from_le_bytes(head[8..12].try_into().expect("four bytes"));
    let chunks = u16::from_le_bytes([head[12], head[13]]);
    let mut value = payload.to_vec();
    for number in 1..chunks {
        let Some(chunk) = tree.get(chunk_key(key, number))? else {
            return Ok(None);
        };
        value.extend_from_slice(&chunk);
    }
    let sound = crc == checksum(key, version, &value);
    Ok(sound.then(|| Record {
        key: key.clone(),
        version,
        value,
    }))
}

fn chunk_key(key: &Key, number: u16) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(key.name.len() + 2);
    bytes.extend_from_slice(&key.name);
    bytes.extend_from_slice(&number.to_be_bytes());
    bytes
}

fn checksum(key: &Key, version: Revision, value: &[u8]) -> u32 {
    let mut crc = crc32c(&[key.tree as u8]);
    crc = crc32c::crc32c_append(crc, &key.name);
    crc = crc32c::crc32c_append(crc, &version.0.to_le_bytes());
    crc32c::crc32c_append(crc, value)
}

fn crc32c(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}
