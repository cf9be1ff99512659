//! One caller's groups on their way to the committer: judged alone, so that one that is too large refuses nobody else's.

use muster_identity::Position;
use tokio::sync::oneshot;

use super::{Change, CommitError};
use crate::store::checked_size;

/// The most bytes in one commit, so that the first in a long queue is not answered with the last. A single group may be larger.
pub(super) const MAX_COMMIT: usize = 4 << 20;

/// What one caller was told about each of its groups.
type Answers = Vec<Result<Position, CommitError>>;

/// Groups that one caller wants to have committed, each for itself.
pub(super) struct Job {
    pub(super) groups: Vec<Vec<Change>>,
    pub(super) bytes: usize,
    pub(super) answer: oneshot::Sender<Answers>,
}

/// The answers that a caller waits for, in the order of its groups.
pub(super) enum Waiting {
    /// This group is never committed.
    Refused(CommitError),
    /// The next so many groups are in one job.
    Queued(usize, oneshot::Receiver<Answers>),
}

/// Divides groups into jobs that fit into a commit, leaving out what never fits.
pub(super) fn divide(groups: Vec<Vec<Change>>) -> (Vec<Job>, Vec<Waiting>) {
    let (mut jobs, mut waiting): (Vec<Job>, Vec<Waiting>) = (Vec::new(), Vec::new());
    for group in groups {
        let bytes = match checked_size(&group) {
            Ok(bytes) => bytes,
            Err(error) => {
                waiting.push(Waiting::Refused(error.into()));
                continue;
            }
        };
        // Only the last job may grow, and only when nothing was refused since: the order of answers is that of the groups.
        match (jobs.last_mut(), waiting.last_mut()) {
            (Some(job), Some(Waiting::Queued(count, _))) if job.bytes + bytes <= MAX_COMMIT => {
                job.groups.push(group);
                job.bytes += bytes;
                *count += 1;
            }
            _ => {
                let (answer, answered) = oneshot::channel();
                jobs.push(Job {
                    groups: vec![group],
                    bytes,
                    answer,
                });
                waiting.push(Waiting::Queued(1, answered));
            }
        }
    }
    (jobs, waiting)
}

/// Waits for all answers.
pub(super) async fn gather(waiting: Vec<Waiting>, queued: Result<(), CommitError>) -> Answers {
    let mut answers = Vec::new();
    for part in waiting {
        match (part, &queued) {
            (Waiting::Refused(error), _) => answers.push(Err(error)),
            (Waiting::Queued(count, _), Err(error)) => answers.extend(vec![Err(error.clone()); count]),
            (Waiting::Queued(count, answered), Ok(())) => {
                let stopped = |_| vec![Err(CommitError::Stopped); count];
                answers.extend(answered.await.unwrap_or_else(stopped));
            }
        }
    }
    answers
}
