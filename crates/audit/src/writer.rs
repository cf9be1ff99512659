//! The thread that writes: it takes all that waits, links it, writes it in one frame, and then answers.

use std::{
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::Instant,
};

use muster_journal::AppendError;
use tokio::sync::oneshot;

use crate::{
    checkpoint::Checkpoint,
    event::Event,
    frame::{self, Batch},
    log::{AuditError, Receipt, Standing},
    merkle::Hash,
    record,
    settings::Settings,
    sink::Sink,
    walk::Tail,
};

/// How many events one frame takes: their callers all wait for the same sync.
const BATCH: usize = 1024;

pub(crate) struct Job {
    pub(crate) event: Event,
    pub(crate) reply: oneshot::Sender<Result<Receipt, AuditError>>,
}

pub(crate) struct Writer {
    sink: Sink,
    settings: Settings,
    standing: Arc<Mutex<Standing>>,
    tail: Tail,
    /// When the oldest record that no checkpoint covers was written.
    uncovered_since: Option<Instant>,
    /// After a checkpoint that failed, the next is not tried at once: the records themselves go first.
    retry_checkpoint: Option<Instant>,
}

impl Writer {
    pub(crate) fn new(sink: Sink, tail: Tail, settings: Settings, standing: Arc<Mutex<Standing>>) -> Self {
        let uncovered_since = (tail.tree.size() > tail.covered).then(Instant::now);
        Self {
            sink,
            settings,
            standing,
            tail,
            uncovered_since,
            retry_checkpoint: None,
        }
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
        let now = self.settings.now();
        // The tree moves on only when the frame is on the disk: what failed must leave no trace in the chain.
        let mut tree = self.tail.tree.clone();
        let mut prev = self.tail.prev;
        let mut batch = Batch::default();
        let mut replies = Vec::with_capacity(jobs.len());
        for Job { event, reply } in jobs {
            let index = tree.size();
            match record::line(&event, index, prev, now) {
                Ok(line) => {
                    prev = Hash::leaf(line.as_bytes());
                    tree.push(prev);
                    batch.push(&line);
                    replies.push((Receipt { index }, reply));
                }
                // Our own types always serialise; if one day one does not, its event alone is refused.
                Err(error) => {
                    tracing::error!(%error, action = event.action.name(), "an audit event has no form");
                    let _ = reply.send(Err(AuditError::Broken));
                }
            }
        }
        if batch.is_empty() {
            return;
        }
        let outcome = self.sink.append(batch.into_payload());
        match &outcome {
            Ok(()) => {
                self.tail.tree = tree;
                self.tail.prev = prev;
                self.uncovered_since.get_or_insert_with(Instant::now);
                self.stand(Standing::Writing);
            }
            Err(error) if error.may_retry() => self.stand(Standing::Failing(error.to_string())),
            Err(error) => self.stand(Standing::Broken(error.to_string())),
        }
        for (receipt, reply) in replies {
            // Nobody may wait any more: the event stands all the same.
            let _ = reply.send(outcome.as_ref().map(|()| receipt).map_err(refusal));
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
        let checkpoint = Checkpoint {
            origin: self.settings.origin().to_owned(),
            size: self.tail.tree.size(),
            root: self.tail.tree.root(),
        };
        let note = match checkpoint.sign(self.settings.signer()) {
            Ok(note) => note,
            Err(error) => return self.postpone(&error),
        };
        if let Err(error) = self.sink.append(frame::checkpoint(self.tail.prev, &note)) {
            return self.postpone(&error);
        }
        self.tail.covered = checkpoint.size;
        self.uncovered_since = None;
        self.retry_checkpoint = None;
        if let Err(error) = self.sink.publish(&note) {
            tracing::warn!(%error, "the newest audit checkpoint could not be put beside the log");
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
        AppendError::Busy => AuditError::Busy,
        AppendError::Full => AuditError::Full,
        AppendError::Size(_) | AppendError::Poisoned(_) => AuditError::Broken,
    }
}
