//! The log: a handle that everybody calls, and the one thread that writes.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, SyncSender, TrySendError},
    },
    thread::JoinHandle,
    time::Duration,
};

use muster_journal::{Journal, OpenError as JournalError};
use muster_pki::key::KeyKind;
use tokio::sync::oneshot;

use crate::{
    checkpoint,
    event::Event,
    settings::Settings,
    sink::{Memory, Sink},
    verify::{self, Replayed, VerifyError},
    walk::Tail,
    writer::{Job, Writer},
};

/// How many callers may wait. Past it a caller gets [`AuditError::Busy`]: a burst must not become memory.
const QUEUE: usize = 4096;
/// How many events may wait, of all callers together.
const MAX_WAITING: usize = 65_536;
/// How long a caller waits for the disk. A disk that hangs must refuse callers, not collect them.
const DEADLINE: Duration = Duration::from_secs(2);

/// Why a log was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The name cannot stand in a checkpoint.
    #[error("{0:?} cannot name an audit log: white space and + are not allowed")]
    Origin(String),
    /// Checkpoints are signed with ECDSA P-256.
    #[error("the key of the audit log must be EC P-256")]
    Key,
    /// The journal below.
    #[error("opening the audit log")]
    Journal(#[from] JournalError),
    /// What is in it.
    #[error("reading the audit log")]
    Content(#[from] VerifyError),
    /// The thread.
    #[error("starting the audit log's thread")]
    Thread(#[source] std::io::Error),
}

/// Why an event is not in the log. Whatever the event was about must not leave then.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AuditError {
    /// Too many events wait.
    #[error("the audit log is busy")]
    Busy,
    /// The disk did not answer in time. The event may still be written.
    #[error("the audit log's disk does not answer")]
    Slow,
    /// The disk is full. The log goes on by itself when there is space.
    #[error("the audit log's disk is full")]
    Full,
    /// A write failed: nothing more is written until the daemon is started again.
    #[error("the audit log cannot be written any more")]
    Broken,
    /// The log was closed.
    #[error("the audit log is closed")]
    Closed,
}

impl AuditError {
    /// Whether the same call may succeed later.
    pub fn may_retry(self) -> bool {
        matches!(self, Self::Busy | Self::Slow | Self::Full)
    }
}

/// The proof that an event is in the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Receipt {
    /// Its number; the first event of a log has 0.
    pub index: u64,
}

/// How the log does, for readiness and health.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Standing {
    /// Events are written.
    Writing,
    /// The last write did not succeed, the next may.
    Failing(String),
    /// No write will succeed any more: the daemon should end and be started again.
    Broken(String),
}

/// The handle of a log: cheap to clone. The last one that goes writes a last checkpoint.
#[derive(Clone)]
pub struct Audit {
    inner: Arc<Inner>,
}

struct Inner {
    jobs: Mutex<Option<SyncSender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    standing: Arc<Mutex<Standing>>,
    waiting: Arc<AtomicUsize>,
    memory: Option<Memory>,
}

impl Audit {
    /// Opens the log in `dir`, making it when there is none, and checks that it is whole.
    ///
    /// # Errors
    /// When another process has it open, when its files are damaged or its chain is broken.
    pub fn open(dir: &Path, settings: Settings) -> Result<Self, OpenError> {
        if !checkpoint::is_origin(settings.origin()) {
            return Err(OpenError::Origin(settings.origin().to_owned()));
        }
        if settings.signer().public_key().kind() != KeyKind::EcP256 {
            return Err(OpenError::Key);
        }
        let opened = Journal::open(dir, verify::options())?;
        if let Some(cut) = &opened.cut {
            tracing::warn!(file = %cut.file.display(), offset = cut.offset, "cut the torn tail of the audit log: nothing in it had been acknowledged");
        }
        let replayed = verify::replay(&opened.journal, settings.origin(), settings.signer().public_key())?;
        let sidecar: PathBuf = dir.join(verify::SIDECAR);
        let sink = Sink::Journal {
            journal: opened.journal,
            sidecar,
        };
        Self::start(sink, replayed, settings, None)
    }

    /// A log that lives in memory, for tests of its callers.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn in_memory(settings: Settings) -> Result<Self, OpenError> {
        let memory = Memory::default();
        Self::start(
            Sink::Memory(memory.clone()),
            Replayed {
                tail: Tail::default(),
                newest_has_edge: true,
            },
            settings,
            Some(memory),
        )
    }

    /// The records of a log in memory, one line of JSON each; nothing for a log on disk.
    pub fn recorded(&self) -> Vec<String> {
        self.inner.memory.as_ref().map(Memory::lines).unwrap_or_default()
    }

    #[cfg(test)]
    pub(crate) fn frames_in_memory(&self) -> Vec<Vec<u8>> {
        self.inner.memory.as_ref().map(Memory::frames).unwrap_or_default()
    }

    /// Lets a log in memory refuse events as one on a full disk does, so that its callers can be tested. A log on
    /// disk takes no notice.
    pub fn set_memory_full(&self, full: bool) {
        if let Some(memory) = &self.inner.memory {
            memory.set_full(full);
        }
    }

    /// Writes `event`; when this returns it is on the disk, and only then may the answer leave (I9).
    ///
    /// A caller that goes away does not take its event back.
    ///
    /// # Errors
    /// When the event is not known to be on the disk: the caller refuses.
    pub async fn record(&self, event: Event) -> Result<Receipt, AuditError> {
        self.record_all(vec![event]).await
    }

    /// Writes several events, one after the other and by one sync: what a batch call needs. Gives the receipt of the
    /// first. Without events there is nothing to wait for.
    ///
    /// # Errors
    /// When not all of them are known to be on the disk: the caller refuses.
    pub async fn record_all(&self, events: Vec<Event>) -> Result<Receipt, AuditError> {
        let answer = self.submit(events)?;
        match tokio::time::timeout(DEADLINE, answer).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(AuditError::Broken), // the thread died with our events
            Err(_) => Err(AuditError::Slow),
        }
    }

    /// As [`Audit::record`], on a thread that may block. It waits as long as the disk does.
    ///
    /// # Errors
    /// As [`Audit::record`].
    pub fn record_blocking(&self, event: Event) -> Result<Receipt, AuditError> {
        let answer = self.submit(vec![event])?;
        answer.blocking_recv().unwrap_or(Err(AuditError::Broken))
    }

    /// How the log does.
    pub fn standing(&self) -> Standing {
        let thread = self.inner.thread.lock();
        if thread.is_ok_and(|thread| thread.as_ref().is_none_or(JoinHandle::is_finished)) {
            return Standing::Broken("the log's thread has ended".to_owned());
        }
        match self.inner.standing.lock() {
            Ok(standing) => standing.clone(),
            Err(_) => Standing::Broken("the log's thread has panicked".to_owned()),
        }
    }

    /// Writes what waits and a last checkpoint, and ends the log for every handle. Blocks.
    pub fn close(&self) {
        self.inner.close();
    }

    fn submit(
        &self,
        events: Vec<Event>,
    ) -> Result<oneshot::Receiver<Result<Receipt, AuditError>>, AuditError> {
        let (reply, answer) = oneshot::channel();
        let jobs = self.inner.jobs.lock().map_err(|_| AuditError::Broken)?;
        let jobs = jobs.as_ref().ok_or(AuditError::Closed)?;
        let (count, waiting) = (events.len(), &self.inner.waiting);
        // Under the lock that all callers take, so that nobody else adds between look and sum.
        if waiting.load(Ordering::Acquire) + count > MAX_WAITING {
            return Err(AuditError::Busy);
        }
        waiting.fetch_add(count, Ordering::AcqRel);
        jobs.try_send(Job { events, reply }).map_err(|error| {
            waiting.fetch_sub(count, Ordering::AcqRel);
            match error {
                TrySendError::Full(_) => AuditError::Busy,
                TrySendError::Disconnected(_) => AuditError::Broken,
            }
        })?;
        Ok(answer)
    }

    fn start(
        sink: Sink,
        replayed: Replayed,
        settings: Settings,
        memory: Option<Memory>,
    ) -> Result<Self, OpenError> {
        let (jobs, queue) = mpsc::sync_channel(QUEUE);
        let standing = Arc::new(Mutex::new(Standing::Writing));
        let waiting = Arc::new(AtomicUsize::new(0));
        let writer = Writer::new(
            sink,
            replayed,
            settings,
            Arc::clone(&standing),
            Arc::clone(&waiting),
        );
        let thread = std::thread::Builder::new()
            .name("audit".into())
            .spawn(move || writer.run(&queue))
            .map_err(OpenError::Thread)?;
        Ok(Self {
            inner: Arc::new(Inner {
                jobs: Mutex::new(Some(jobs)),
                thread: Mutex::new(Some(thread)),
                standing,
                waiting,
                memory,
            }),
        })
    }
}

impl Inner {
    fn close(&self) {
        if let Ok(mut jobs) = self.jobs.lock() {
            drop(jobs.take());
        }
        let thread = self.thread.lock().ok().and_then(|mut thread| thread.take());
        if let Some(thread) = thread {
            // A panic in the thread was already seen by everybody who waited: their answers said Broken.
            let _ = thread.join();
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}
