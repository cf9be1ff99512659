//! The bounded threads on which keys are used.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::sync::oneshot;
use tracing::error;

type Job = Box<dyn FnOnce() + Send>;

/// Threads for work that blocks or costs CPU: making keys, signing, asking a token or a TPM.
///
/// The queue is short on purpose. When it is full the caller hears [`SigningPoolError::Busy`] at once and may come back, instead of waiting
/// for an answer that comes after its own deadline: this is the daemon's admission control.
#[derive(Clone, Debug)]
pub struct SigningPool {
    jobs: SyncSender<Job>,
}

/// Why a job has no result.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SigningPoolError {
    /// The queue is full; try again after a moment.
    #[error("too many signatures are waiting")]
    Busy,
    /// The job panicked. The thread lives on.
    #[error("the signing job broke")]
    Broken,
}

impl SigningPool {
    /// Starts `threads` threads with room for `queue` waiting jobs. They end when the last clone is dropped.
    ///
    /// Fails when the system gives no thread.
    pub fn start(threads: usize, queue: usize) -> std::io::Result<Self> {
        let (jobs, waiting) = sync_channel::<Job>(queue);
        let waiting = Arc::new(Mutex::new(waiting));
        for number in 0..threads.max(1) {
            let waiting = Arc::clone(&waiting);
            thread::Builder::new()
                .name(format!("signing-{number}"))
                .spawn(move || work(&waiting))?;
        }
        Ok(Self { jobs })
    }

    /// Runs `job` on a thread of the pool. A caller that goes away before its turn costs nothing.
    pub async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, SigningPoolError> {
        let (answer, answered) = oneshot::channel();
        let job = Box::new(move || {
            if !answer.is_closed() {
                answer.send(job()).ok();
            }
        });
        self.jobs.try_send(job).map_err(|refused| match refused {
            TrySendError::Full(_) => SigningPoolError::Busy,
            TrySendError::Disconnected(_) => SigningPoolError::Broken,
        })?;
        answered.await.map_err(|_| SigningPoolError::Broken)
    }
}

fn work(waiting: &Mutex<Receiver<Job>>) {
    loop {
        // The lock is held while waiting: one idle thread stands at the door, the others behind it.
        let job = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(job)) {
            error!(
                panic = crate::tasks::panic_text(&*panic),
                "a signing job panicked; the pool goes on"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[tokio::test]
    async fn a_full_queue_says_busy_and_recovers() {
        let pool = SigningPool::start(1, 1).unwrap();
        let (release, held) = channel::<()>();
        let (started, running) = oneshot::channel();
        let blocked = pool.run(move || {
            started.send(()).ok();
            held.recv().ok();
        });
        let others = async {
            running.await.unwrap();
            let queued = pool.run(|| 2);
            let refused = async {
                // The queued job was put in before this one is polled.
                assert_eq!(pool.run(|| 3).await, Err(SigningPoolError::Busy));
                release.send(()).unwrap();
            };
            tokio::join!(biased; queued, refused).0
        };
        let (blocked, queued) = tokio::join!(blocked, others);
        assert_eq!((blocked, queued), (Ok(()), Ok(2)));
    }

    #[tokio::test]
    async fn a_job_that_panics_is_broken_and_the_pool_lives() {
        let pool = SigningPool::start(1, 4).unwrap();
        let broken: Result<(), _> = pool.run(|| panic!("no key")).await;
        assert_eq!(broken, Err(SigningPoolError::Broken));
        assert_eq!(pool.run(|| 7).await, Ok(7));
    }
}
