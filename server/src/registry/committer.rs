use std::sync::Arc;

use muster_identity::Position;
use muster_runtime::Stop;

use super::jobs::{Job, MAX_COMMIT};
use super::view::{Touched, View};
use super::{CommitError, Shared};
use crate::store::{Change, Conflict, Store, StoreError};

/// The only writer. Somebody must run it, or nothing is ever committed.
pub struct Committer {
    shared: Arc<Shared>,
    store: Arc<dyn Store>,
}

/// Why the committer ended before it was told to. The server must end too: a new start finds out what is durable.
#[derive(Debug, thiserror::Error)]
pub enum CommitterError {
    /// The store failed.
    #[error("committing")]
    Store(#[from] StoreError),
    /// A change that the view cannot take was made durable.
    #[error("applying what was committed")]
    Record(#[from] super::RecordError),
}

impl Committer {
    pub(super) fn new(shared: Arc<Shared>, store: Arc<dyn Store>) -> Self {
        Self { shared, store }
    }

    /// Commits until `stop` is ordered and the queue is empty; then the store writes behind what is left.
    ///
    /// # Errors
    /// When the store failed in a way that only a new start can clear up.
    pub async fn run(self, stop: Stop) -> Result<(), CommitterError> {
        let mut stopping = false;
        loop {
            self.shared.turns.send_modify(|turns| *turns += 1);
            let jobs = self.take();
            if !jobs.is_empty() {
                if let Err(error) = self.commit(jobs).await {
                    self.close();
                    return Err(error);
                }
                continue;
            }
            if stopping {
                break;
            }
            tokio::select! {
                () = self.shared.wake.notified() => {}
                () = stop.ordered() => stopping = true,
            }
        }
        self.close();
        self.store.close().await;
        Ok(())
    }

    fn take(&self) -> Vec<Job> {
        let mut queue = self.shared.lock();
        let mut jobs = Vec::new();
        let mut bytes = 0;
        while let Some(job) = queue.jobs.front() {
            if !jobs.is_empty() && bytes + job.bytes > MAX_COMMIT {
                break;
            }
            bytes += job.bytes;
            jobs.extend(queue.jobs.pop_front());
        }
        queue.bytes -= bytes;
        jobs
    }

    /// What still waits is answered with «stopped» by its sender being dropped.
    fn close(&self) {
        let mut queue = self.shared.lock();
        queue.closed = true;
        queue.jobs.clear();
    }

    async fn commit(&self, jobs: Vec<Job>) -> Result<(), CommitterError> {
        let mut answers = Vec::with_capacity(jobs.len());
        let mut groups = Vec::new();
        for job in jobs {
            answers.push((job.groups.len(), job.answer));
            groups.extend(job.groups);
        }
        let count = groups.len();
        match self.store.commit(groups).await {
            Ok(committed) => {
                let position = Position {
                    store: self.store.id(),
                    revision: committed.revision,
                };
                self.publish(position, &committed.outcomes)?;
                let mut outcomes = committed.outcomes.into_iter();
                for (count, answer) in answers {
                    let own = outcomes.by_ref().take(count);
                    let own = own.map(|outcome| outcome.map(|_| position).map_err(CommitError::from));
                    // A caller that went away does not take its change back.
                    let _ = answer.send(own.collect());
                }
                Ok(())
            }
            Err(error) => {
                tracing::error!(%error, groups = count, "changes were not committed");
                for (count, answer) in answers {
                    let _ = answer.send(vec![Err(error.clone().into()); count]);
                }
                match error {
                    StoreError::Stopped(_) => Err(error.into()),
                    StoreError::Full | StoreError::Busy | StoreError::TooLarge(_) => Ok(()),
                }
            }
        }
    }

    fn publish(
        &self,
        position: Position,
        outcomes: &[Result<Vec<Change>, Conflict>],
    ) -> Result<(), super::RecordError> {
        let before = self.shared.view.load_full();
        if before.position() == position {
            return Ok(()); // nothing passed
        }
        let mut view = View::clone(&before);
        let mut touched = Touched::default();
        for change in outcomes.iter().flatten().flatten() {
            view.apply_noting(
                &change.key,
                change.value.as_deref(),
                position.revision,
                &mut touched,
            )?;
        }
        view.advance(position);
        let after = Arc::new(view);
        self.shared.view.store(after.clone());
        self.shared.mailboxes.deliver(&before, &after, &touched);
        self.shared.position.send_replace(position);
        Ok(())
    }
}
