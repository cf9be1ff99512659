//! The bounded threads on which keys are used.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
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
    door: Arc<Door>,
}

/// Closes the queue behind the last who could put something into it.
#[derive(Debug)]
struct Door(Arc<Queue>);

/// Jobs that no thread has taken yet.
struct Queue {
    /// How many there may be.
    room: usize,
    state: Mutex<State>,
    filled: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    /// Threads that wait for a job. Only they are woken: under load a job costs no wake-up, and otherwise one.
    idle: usize,
    is_closed: bool,
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
        let queue = Arc::new(Queue {
            room: queue,
            state: Mutex::default(),
            filled: Condvar::new(),
        });
        let door = Arc::new(Door(Arc::clone(&queue)));
        for number in 0..threads.max(1) {
            let queue = Arc::clone(&queue);
            thread::Builder::new()
                .name(format!("signing-{number}"))
                .spawn(move || work(&queue))?;
        }
        Ok(Self { door })
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
        self.door.0.put(job)?;
        answered.await.map_err(|_| SigningPoolError::Broken)
    }
}

impl Queue {
    fn put(&self, job: Job) -> Result<(), SigningPoolError> {
        let mut state = self.state();
        if state.jobs.len() >= self.room {
            return Err(SigningPoolError::Busy);
        }
        state.jobs.push_back(job);
        let is_awaited = state.idle > 0;
        drop(state);
        if is_awaited {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Waits for the next job; none once nobody can put one in any more.
    fn take(&self) -> Option<Job> {
        let mut state = self.state();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            if state.is_closed {
                return None;
            }
            state.idle += 1;
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.0.state().is_closed = true;
        self.0.filled.notify_all();
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.state().jobs.len();
        f.debug_struct("Queue")
            .field("room", &self.room)
            .field("waiting", &waiting)
            .finish()
    }
}

fn work(queue: &Queue) {
    while let Some(job) = queue.take() {
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

    #[tokio::test]
    async fn every_thread_works_and_all_end_with_the_last_clone() {
        let pool = SigningPool::start(3, 8).unwrap();
        let queue = Arc::downgrade(&pool.door.0);
        // Each waits for the others: one thread alone would never get through.
        let all = Arc::new(std::sync::Barrier::new(3));
        let meet = || {
            let all = Arc::clone(&all);
            pool.run(move || all.wait().is_leader())
        };
        for _ in 0..100 {
            let (one, two, three) = tokio::join!(meet(), meet(), meet());
            let leaders = [one, two, three].map(|leads| usize::from(leads.unwrap()));
            assert_eq!(leaders.iter().sum::<usize>(), 1);
        }
        let clone = pool.clone();
        drop(pool);
        assert_eq!(clone.run(|| 7).await, Ok(7));
        drop(clone);
        let gone = async {
            while queue.upgrade().is_some() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(60), gone)
            .await
            .expect("the threads have ended");
    }
}
