//! The thread that writes: it takes all that waits, links it, writes it in a frame, and then answers.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::Instant,
};

use muster_journal::AppendError;
use muster_pki::signer::SignerError;
use tokio::sync::oneshot;

use crate::{
    checkpoint::Checkpoint,
    event::Event,
    frame::{self, Batch},
    log::{AuditError, Receipt, Standing},
    merkle::{Hash, Tree},
    record,
    settings::Settings,
    sink::Sink,
    verify::Replayed,
    walk::Tail,
};

/// How many callers are answered by one sync.
const BATCH: usize = 1024;
/// How long a frame gets before the next is begun, in bytes. Callers choose many of the values in it: however long they
/// make them, a frame and one record more (at most 32 facts of 32 values) stay far below what the journal takes.
const FRAME: usize = 4 << 20;

pub(crate) struct Job {
    pub(crate) events: Vec<Event>,
    pub(crate) reply: Reply,
}

/// To whom the receipt of a job's first event goes.
type Reply = oneshot::Sender<Result<Receipt, AuditError>>;

/// A frame that is being filled, and where the log will stand when it is written.
struct Filling {
    tree: Tree,
    prev: Hash,
    batch: Batch,
    replies: Vec<(Receipt, Reply)>,
}

impl Filling {
    fn behind(tail: &Tail) -> Self {
        Self {
            tree: tail.tree.clone(),
            prev: tail.prev,
            batch: Batch::default(),
            replies: Vec::new(),
        }
    }
}

pub(crate) struct Writer {
    sink: Sink,
    settings: Settings,
    standing: Arc<Mutex<Standing>>,
    /// How many events are queued.
    waiting: Arc<AtomicUsize>,
    tail: Tail,
    /// When the oldest record that no checkpoint covers was written.
    uncovered_since: Option<Instant>,
    /// After a checkpoint that failed, the next is not tried at once: the records themselves go first.
    retry_checkpoint: Option<Instant>,
    /// Whether the newest file lacks its first frame, or may, so that another is to be begun however long it is.
    lacks_edge: bool,
    /// After a file that could not be begun, the next is not tried at once.
    retry_file: Option<Instant>,
}

impl Writer {
    pub(crate) fn new(
        sink: Sink,
        replayed: Replayed,
        settings: Settings,
        standing: Arc<Mutex<Standing>>,
        waiting: Arc<AtomicUsize>,
    ) -> Self {
        let Replayed {
            tail,
            newest_has_edge,
        } = replayed;
        let uncovered_since = (tail.tree.size() > tail.covered).then(Instant::now);
        let mut writer = Self {
            sink,
            settings,
            standing,
            waiting,
            tail,
            uncovered_since,
            retry_checkpoint: None,
            lacks_edge: !newest_has_edge,
            retry_file: None,
        };
        // With records that are not signed yet, the next checkpoint does it.
        if writer.file_is_due() && writer.tail.tree.size() == writer.tail.covered {
            match writer.sign() {
                Ok(note) => {
                    writer.publish(&note);
                    writer.begin_file(&note);
                }
                Err(error) => tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the audit log began no new file"
                ),
            }
        }
        writer
    }

    pub(crate) fn run(mut self, queue: &Receiver<Job>) {
        loop {
            let first = match self.checkpoint_due() {
                None => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => queue.recv_timeout(at.saturating_duration_since(Instant::now())),
            };
            match first {
                Ok(first) => {
                    let mut jobs = vec![first];
                    jobs.extend(queue.try_iter().take(BATCH - 1));
                    self.write(jobs);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            let now = Instant::now();
            if self.checkpoint_due().is_some_and(|at| at <= now) {
                self.write_checkpoint();
            }
        }
        if self.uncovered_since.is_some() {
            self.write_checkpoint();
        }
    }

    fn write(&mut self, jobs: Vec<Job>) {
        let time = self.settings.now().to_string();
        let mut filling = Filling::behind(&self.tail);
        for Job { events, reply } in jobs {
            self.waiting.fetch_sub(events.len(), Ordering::AcqRel);
            let first = filling.tree.size();
            match self.fill(&mut filling, &events, &time) {
                Ok(()) => filling.replies.push((Receipt { index: first }, reply)),
                // Nobody may wait any more: the events stand or fall all the same.
                Err(why) => drop(reply.send(Err(why))),
            }
        }
        let _ = self.flush(&mut filling);
    }

    /// Puts events into the frame, and begins another when it is long enough.
    fn fill(&mut self, filling: &mut Filling, events: &[Event], time: &str) -> Result<(), AuditError> {
        for event in events {
            if filling.batch.len() >= FRAME {
                self.flush(filling)?;
            }
            // Our own types always serialise; if one day one does not, its event alone is refused.
            let line = record::line(event, filling.tree.size(), filling.prev, time).map_err(|error| {
                tracing::error!(%error, action = event.action.name(), "an audit event has no form");
                AuditError::Broken
            })?;
            filling.prev = Hash::leaf(line.as_bytes());
            filling.tree.push(filling.prev);
            filling.batch.push(&line);
        }
        Ok(())
    }

    /// Writes the frame and answers whom it was for. The tail moves on only when the frame is on the disk: what failed
    /// leaves no trace in the chain.
    fn flush(&mut self, filling: &mut Filling) -> Result<(), AuditError> {
        let batch = std::mem::take(&mut filling.batch);
        let replies = std::mem::take(&mut filling.replies);
        let outcome = if batch.is_empty() {
            Ok(())
        } else {
            self.append(batch, filling)
        };
        for (receipt, reply) in replies {
            let _ = reply.send(outcome.map(|()| receipt));
        }
        outcome
    }

    fn append(&mut self, batch: Batch, filling: &mut Filling) -> Result<(), AuditError> {
        match self.sink.append(batch.into_payload()) {
            Ok(()) => {
                self.tail.tree = filling.tree.clone();
                self.tail.prev = filling.prev;
                self.uncovered_since.get_or_insert_with(Instant::now);
                self.stand(Standing::Writing);
                Ok(())
            }
            Err(error) => {
                filling.tree = self.tail.tree.clone();
                filling.prev = self.tail.prev;
                let standing = match &error {
                    AppendError::Poisoned(_) => Standing::Broken(error.to_string()),
                    _ => Standing::Failing(error.to_string()),
                };
                self.stand(standing);
                Err(refusal(&error))
            }
        }
    }

    /// When the next checkpoint is due, if any record lacks one.
    fn checkpoint_due(&self) -> Option<Instant> {
        let since = self.uncovered_since?;
        let uncovered = self.tail.tree.size() - self.tail.covered;
        let due = if uncovered >= self.settings.checkpoint_records {
            since
        } else {
            since + self.settings.checkpoint_after
        };
        Some(self.retry_checkpoint.map_or(due, |retry| due.max(retry)))
    }

    fn write_checkpoint(&mut self) {
        let note = match self.sign() {
            Ok(note) => note,
            Err(error) => return self.postpone(&error),
        };
        if let Err(error) = self.sink.append(frame::checkpoint(self.tail.prev, &note)) {
            return self.postpone(&error);
        }
        self.tail.covered = self.tail.tree.size();
        self.uncovered_since = None;
        self.retry_checkpoint = None;
        self.publish(&note);
        if self.file_is_due() {
            self.begin_file(&note);
        }
    }

    fn publish(&self, note: &str) {
        if let Err(error) = self.sink.publish(note) {
            tracing::warn!(%error, "the newest audit checkpoint could not be put beside the log");
        }
    }

    /// The signed statement of how the log stands.
    fn sign(&self) -> Result<String, SignerError> {
        let checkpoint = Checkpoint {
            origin: self.settings.origin().to_owned(),
            size: self.tail.tree.size(),
            root: self.tail.tree.root(),
        };
        checkpoint.sign(self.settings.signer())
    }

    fn file_is_due(&self) -> bool {
        let waits = self.retry_file.is_some_and(|at| Instant::now() < at);
        !waits && (self.lacks_edge || self.sink.file_bytes() >= self.settings.file_bytes)
    }

    /// Begins a file behind a checkpoint, with `note` over all that there is: a file that is put away was signed to its end.
    fn begin_file(&mut self, note: &str) {
        let begun = self.sink.begin_file(frame::edge(&self.tail, note));
        // It may have been begun and not have got its first frame.
        self.lacks_edge = begun.is_err();
        self.retry_file = begun
            .is_err()
            .then(|| Instant::now() + self.settings.checkpoint_after);
        match begun {
            Ok(()) => {}
            Err(error @ AppendError::Poisoned(_)) => self.stand(Standing::Broken(error.to_string())),
            Err(error) => {
                tracing::warn!(%error, "the audit log began no new file; it goes on in the one that is there");
            }
        }
    }

    fn postpone(&mut self, error: &(impl std::error::Error + 'static)) {
        tracing::error!(
            error = error as &dyn std::error::Error,
            "the audit log has no checkpoint over its newest records"
        );
        self.retry_checkpoint = Some(Instant::now() + self.settings.checkpoint_after);
    }

    fn stand(&self, standing: Standing) {
        let Ok(mut current) = self.standing.lock() else {
            return;
        };
        if *current == standing {
            return;
        }
        match &standing {
            Standing::Writing => tracing::info!("the audit log is written again"),
            Standing::Failing(why) => {
                tracing::error!(
                    why,
                    "the audit log fails: nothing is issued until it is written again"
                );
            }
            Standing::Broken(why) => {
                tracing::error!(
                    why,
                    "the audit log is broken: nothing is issued until the daemon starts anew"
                );
            }
        }
        *current = standing;
    }
}

fn refusal(error: &AppendError) -> AuditError {
    match error {
        AppendError::Busy | AppendError::Unbegun(_) => AuditError::Busy,
        AppendError::Full => AuditError::Full,
        AppendError::Size(_) | AppendError::Poisoned(_) => AuditError::Broken,
    }
}
