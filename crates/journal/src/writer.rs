//! The thread that writes: everything that waits goes out in one write and one `fdatasync`.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::error::{AppendError, OpenError, ReadError};
use crate::generation::{self, FIRST_FRAME, Generation};
use crate::medium::{self, Medium};
use crate::pending::{self, Pending, Promise};
use crate::{Cut, End, FolderLock, Options, Reader, Witness, frame};

/// One write is at most about this long, so that the first waiter of a long queue is not served last.
const BATCH: usize = 8 << 20;

pub(crate) struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    options: Options,
    queue: Mutex<Queue>,
    wake: Condvar,
    /// What readers may see.
    durable: Mutex<Durable>,
    poison: Mutex<Option<Arc<str>>>,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    bytes: usize,
    stopping: bool,
}

enum Job {
    Append(Vec<u8>, Promise),
    Rotate(Promise),
}

struct Durable {
    generations: Vec<Generation>,
}

impl Writer {
    pub(crate) fn open(dir: &Path, options: Options, first: u64) -> Result<(Self, Option<Cut>), OpenError> {
        let lock = FolderLock::take(dir)?;
        let scanned = match options.newest_only {
            false => generation::scan_all(dir)?,
            true => generation::scan_newest(dir)?,
        };
        let cut = match scanned.end {
            End::Clean => None,
            End::Torn(cut) => Some(cut),
            End::Damaged(damage) => return Err(damage.into()),
        };
        remove_unfinished(dir).map_err(OpenError::io(dir))?;
        let mut generations = scanned.generations;
        if generations.is_empty() {
            let (generation, _) =
                begin_generation(dir, first, options.extend_by).map_err(OpenError::io(dir))?;
            medium::sync_folder(dir).map_err(OpenError::io(dir))?;
            generations.push(generation);
        }
        let current = generations
            .last()
            .expect("one was just made if there was none")
            .clone();
        let io = |source| OpenError::Io {
            path: current.path.clone(),
            source,
        };
        let file = Medium::open(&current.path).map_err(io)?;
        if cut.is_some() {
            // Physically gone: its frames must never look like the successors of what is written next.
            file.truncate(current.end).map_err(io)?;
        }
        // What was read may be in the page cache only, if the process before us was killed before its sync.
        file.sync().map_err(io)?;
        let allocated = file.length().map_err(io)?;
        let witness = Witness::open(dir).map_err(OpenError::io(dir))?;
        witness.note(current.last).map_err(OpenError::io(dir))?;
        witness.sync().map_err(OpenError::io(dir))?;
        let shared = Arc::new(Shared {
            options,
            queue: Mutex::default(),
            wake: Condvar::new(),
            durable: Mutex::new(Durable { generations }),
            poison: Mutex::default(),
        });
        let disk = Disk {
            dir: dir.to_owned(),
            file,
            current,
            allocated,
            witness,
            _lock: lock,
        };
        let thread = {
            let shared = shared.clone();
            std::thread::Builder::new()
                .name("journal".into())
                .spawn(move || serve(&shared, disk))
        };
        let thread = Some(thread.map_err(OpenError::io(dir))?);
        Ok((Self { shared, thread }, cut))
    }

    pub(crate) fn append(&self, record: Vec<u8>) -> Pending {
        if record.is_empty() || record.len() > self.shared.options.max_record {
            return Pending::ready(Err(AppendError::Size(record.len())));
        }
        let bytes = record.len();
        let (promise, pending) = pending::pair();
        let mut queue = lock(&self.shared.queue);
        if queue.bytes > 0 && queue.bytes + bytes > self.shared.options.max_queued_bytes {
            return Pending::ready(Err(AppendError::Busy));
        }
        queue.bytes += bytes;
        queue.jobs.push_back(Job::Append(record, promise));
        drop(queue);
        self.shared.wake.notify_one();
        pending
    }

    pub(crate) fn rotate(&self) -> Pending {
        let (promise, pending) = pending::pair();
        lock(&self.shared.queue).jobs.push_back(Job::Rotate(promise));
        self.shared.wake.notify_one();
        pending
    }

    pub(crate) fn first(&self) -> u64 {
        lock(&self.shared.durable).generations[0].first
    }

    pub(crate) fn last(&self) -> u64 {
        lock(&self.shared.durable)
            .generations
            .last()
            .map_or(0, Generation::last)
    }

    pub(crate) fn generations(&self) -> Vec<u64> {
        let durable = lock(&self.shared.durable);
        durable
            .generations
            .iter()
            .map(|generation| generation.first)
            .collect()
    }

    pub(crate) fn generation_bytes(&self) -> u64 {
        lock(&self.shared.durable)
            .generations
            .last()
            .map_or(0, |generation| generation.end - FIRST_FRAME)
    }

    pub(crate) fn read(&self, from: u64) -> Result<Reader, ReadError> {
        let generations = lock(&self.shared.durable).generations.clone();
        let (first, last) = (
            generations[0].first,
            generations.last().map_or(0, Generation::last),
        );
        if from < first {
            return Err(ReadError::Gone { wanted: from, first });
        }
        Ok(Reader::new(generations, from, last))
    }

    pub(crate) fn drop_before(&self, position: u64) -> Result<usize, ReadError> {
        let mut durable = lock(&self.shared.durable);
        let mut dropped = 0;
        while durable.generations.len() > 1 && durable.generations[0].last < position {
            let path = durable.generations[0].path.clone();
            // Oldest first, so that a crash in between leaves no hole.
            std::fs::remove_file(&path).map_err(|source| ReadError::Io { path, source })?;
            durable.generations.remove(0);
            dropped += 1;
        }
        Ok(dropped)
    }

    pub(crate) fn poisoned(&self) -> Option<String> {
        lock(&self.shared.poison).as_ref().map(ToString::to_string)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        lock(&self.shared.queue).stopping = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn remove_unfinished(dir: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "new") {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// A new, empty generation, whose bytes are durable and whose name is not yet. When it can't be made, nothing is left of it.
fn begin_generation(dir: &Path, first: u64, extend_by: u64) -> io::Result<(Generation, Medium)> {
    let path = generation::path(dir, first);
    let unfinished = path.with_extension("new");
    let salt = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), first);
    let make = || -> io::Result<Medium> {
        let file = Medium::create(&unfinished)?;
        file.write_at(&generation::head(salt, first), 0)?;
        file.extend(FIRST_FRAME, extend_by.max(FIRST_FRAME))?;
        std::fs::rename(&unfinished, &path)?;
        Ok(file)
    };
    let file = make().inspect_err(|_| {
        let _ = std::fs::remove_file(&unfinished);
    })?;
    Ok((
        Generation {
            path,
            salt,
            first,
            last: first - 1,
            end: FIRST_FRAME,
        },
        file,
    ))
}

struct Disk {
    dir: PathBuf,
    file: Medium,
    current: Generation,
    allocated: u64,
    witness: Witness,
    _lock: FolderLock,
}

fn serve(shared: &Shared, mut disk: Disk) {
    loop {
        let jobs = {
            let mut queue = lock(&shared.queue);
            while queue.jobs.is_empty() && !queue.stopping {
                queue = shared.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            take_batch(&mut queue)
        };
        let Some(jobs) = jobs else { break };
        match jobs {
            Batch::Appends(records) => write_batch(shared, &mut disk, records),
            Batch::Rotate(promise) => promise.keep(rotate(shared, &mut disk)),
        }
    }
    // At a clean end the witness is durable too, so that damage at rest is told from a power cut.
    if lock(&shared.poison).is_none() {
        let _ = disk.witness.sync();
    }
}

enum Batch {
    Appends(Vec<(Vec<u8>, Promise)>),
    Rotate(Promise),
}

fn take_batch(queue: &mut Queue) -> Option<Batch> {
    let mut records = Vec::new();
    let mut bytes = 0;
    while bytes < BATCH {
        match queue.jobs.pop_front() {
            Some(Job::Append(record, promise)) => {
                bytes += record.len();
                records.push((record, promise));
            }
            Some(Job::Rotate(promise)) if records.is_empty() => return Some(Batch::Rotate(promise)),
            Some(rotate) => {
                queue.jobs.push_front(rotate);
                break;
            }
            None => break,
        }
    }
    queue.bytes -= bytes;
    (!records.is_empty()).then_some(Batch::Appends(records))
}

fn write_batch(shared: &Shared, disk: &mut Disk, records: Vec<(Vec<u8>, Promise)>) {
    let refusal = lock(&shared.poison).clone().map(AppendError::Poisoned);
    let written = match refusal {
        Some(refusal) => Err(refusal),
        None => disk.write(&records, shared),
    };
    if written.is_ok() {
        // Seen by readers before it is acknowledged, so that an acknowledged record can always be read.
        let mut durable = lock(&shared.durable);
        if let Some(current) = durable.generations.last_mut() {
            *current = disk.current.clone();
        }
    }
    match written {
        Ok(first) => {
            for (position, (_, promise)) in (first..).zip(records) {
                promise.keep(Ok(position));
            }
        }
        Err(error) => records
            .into_iter()
            .for_each(|(_, promise)| promise.keep(Err(error.clone()))),
    }
}

impl Disk {
    /// Returns the position of the first record.
    fn write(&mut self, records: &[(Vec<u8>, Promise)], shared: &Shared) -> Result<u64, AppendError> {
        let size: usize = records.iter().map(|(record, _)| frame::size(record.len())).sum();
        let durable = self.current.last;
        let mut bytes = Vec::with_capacity(size);
        for (position, (record, _)) in (durable + 1..).zip(records) {
            frame::put(&mut bytes, self.current.salt, position, durable, record);
        }
        let end = self.current.end + bytes.len() as u64;
        if end > self.allocated {
            self.extend(end, shared)?;
        }
        let done = self
            .file
            .write_at(&bytes, self.current.end)
            .and_then(|()| self.file.sync());
        done.map_err(|error| shared.poison(&self.current.path, &error))?;
        self.current.end = end;
        self.current.last = durable + records.len() as u64;
        if let Err(error) = self.witness.note(self.current.last) {
            // Only a lower bound is lost, and the next one makes it good.
            tracing::warn!(%error, "the journal's witness was not written");
        }
        Ok(durable + 1)
    }

    /// A full disk is met here, before any byte of a record is written, so nothing has to be undone.
    fn extend(&mut self, end: u64, shared: &Shared) -> Result<(), AppendError> {
        let step = shared.options.extend_by.max(4096);
        let to = end.next_multiple_of(step);
        match self.file.extend(self.allocated, to) {
            Ok(()) => self.allocated = to,
            Err(error) if medium::is_full(&error) => return Err(AppendError::Full),
            Err(error) => return Err(shared.poison(&self.current.path, &error)),
        }
        Ok(())
    }
}

fn rotate(shared: &Shared, disk: &mut Disk) -> Result<u64, AppendError> {
    if let Some(why) = lock(&shared.poison).clone() {
        return Err(AppendError::Poisoned(why));
    }
    let last = disk.current.last;
    if last < disk.current.first {
        return Ok(last); // nothing in it yet: it is already the new one
    }
    let extend_by = shared.options.extend_by;
    let (next, file) = begin_generation(&disk.dir, last + 1, extend_by).map_err(|error| {
        if generation::path(&disk.dir, last + 1).exists() {
            // Which of the two a new start takes for the newest, nobody knows.
            shared.poison(&disk.dir, &error)
        } else if medium::is_full(&error) {
            AppendError::Full
        } else {
            AppendError::Unbegun(format!("{}: {error}", disk.dir.display()).into())
        }
    })?;
    medium::sync_folder(&disk.dir).map_err(|error| shared.poison(&disk.dir, &error))?;
    // The space that was taken ahead goes back; if that fails, zeros stay behind and hurt nobody.
    if let Err(error) = disk.file.truncate(disk.current.end) {
        tracing::warn!(%error, "a finished generation was not shortened");
    }
    disk.allocated = extend_by.max(FIRST_FRAME);
    disk.current = next.clone();
    disk.file = file;
    lock(&shared.durable).generations.push(next);
    Ok(last)
}

impl Shared {
    fn poison(&self, path: &Path, error: &io::Error) -> AppendError {
        let why: Arc<str> = format!("{}: {error}", path.display()).into();
        tracing::error!(path = %path.display(), %error, "the journal stopped; restart to find what is durable");
        *lock(&self.poison) = Some(why.clone());
        AppendError::Poisoned(why)
    }
}
