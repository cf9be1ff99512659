//! Every task of a daemon is a child of one [`Tasks`] value.

use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error};

use crate::Stop;

type BoxError = Box<dyn Error + Send + Sync>;

/// How many failures are kept for the answer of [`Tasks::run`]. The first one matters; the rest are logged.
const FAILURES_KEPT: usize = 8;

/// The tasks of one daemon. The first child that fails, or panics, stops all others.
#[derive(Debug)]
pub struct Tasks {
    spawner: Spawner,
    failures: mpsc::Receiver<TaskFailure>,
}

/// Spawns children of a [`Tasks`] value; cheap to clone.
#[derive(Clone, Debug)]
pub struct Spawner {
    tracker: TaskTracker,
    stop: Stop,
    cut: CancellationToken,
    failed: mpsc::Sender<TaskFailure>,
}

/// Why a daemon stopped by itself.
#[derive(Debug, thiserror::Error)]
#[error("task {name} {cause}")]
pub struct TaskFailure {
    name: String,
    cause: Cause,
}

#[derive(Debug)]
enum Cause {
    Failed(BoxError),
    Panicked(String),
}

/// How a daemon came to rest.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Drained {
    /// Every task came to its own end.
    Clean,
    /// The deadline passed and this many tasks were cut.
    Cut(usize),
}

impl Tasks {
    /// No tasks yet. `stop` stops them all, and is ordered by the first that fails.
    pub fn new(stop: Stop) -> Self {
        let (failed, failures) = mpsc::channel(FAILURES_KEPT);
        let spawner = Spawner {
            tracker: TaskTracker::new(),
            stop,
            cut: CancellationToken::new(),
            failed,
        };
        Self { spawner, failures }
    }

    /// A handle that spawns more children.
    pub fn spawner(&self) -> Spawner {
        self.spawner.clone()
    }

    /// The order that stops these tasks.
    pub fn stop(&self) -> Stop {
        self.spawner.stop.clone()
    }

    /// As [`Spawner::spawn`].
    pub fn spawn<E>(
        &self,
        name: impl Into<String>,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) where
        E: Into<BoxError> + 'static,
    {
        self.spawner.spawn(name, task);
    }

    /// Runs until the stop is ordered or a child fails; then lets the children finish for `deadline` and cuts the rest.
    /// A failure is the answer even when everything else ended well.
    pub async fn run(mut self, deadline: Duration) -> Result<Drained, TaskFailure> {
        let stop = self.spawner.stop.clone();
        // Either may come first; a failure that arrives while we drain is still collected below.
        let mut first = tokio::select! {
            () = stop.ordered() => None,
            failure = self.failures.recv() => failure,
        };
        stop.order();
        let tracker = self.spawner.tracker.clone();
        tracker.close();
        let drained = match tokio::time::timeout(deadline, tracker.wait()).await {
            Ok(()) => Drained::Clean,
            Err(_) => {
                let left = tracker.len();
                self.spawner.cut.cancel();
                tracker.wait().await;
                Drained::Cut(left)
            }
        };
        while let Ok(failure) = self.failures.try_recv() {
            first.get_or_insert(failure);
        }
        first.map_or(Ok(drained), Err)
    }
}

impl Spawner {
    /// The order that stops these tasks; every long-lived task watches it.
    pub fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// Starts a child. Its error or panic stops the whole daemon; `Ok` only ends the child.
    pub fn spawn<E>(
        &self,
        name: impl Into<String>,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) where
        E: Into<BoxError> + 'static,
    {
        let name = name.into();
        let failed = self.failed.clone();
        let stop = self.stop.clone();
        self.start(async move {
            let cause = match caught(task).await {
                Ok(Ok(())) => return debug!(task = %name, "task ended"),
                Ok(Err(source)) => Cause::Failed(source.into()),
                Err(panic) => Cause::Panicked(panic),
            };
            let failure = TaskFailure { name, cause };
            error!(error = &failure as &dyn Error, "a task failed; stopping");
            // A full channel means that the first failure is long known.
            failed.try_send(failure).ok();
            stop.order();
        });
    }

    /// Starts a child that serves one peer. Nothing that one peer does may stop the others, so a panic is logged as an error and ends this child alone.
    pub fn spawn_for_peer(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.start(async move {
            if let Err(panic) = caught(task).await {
                error!(
                    task = name,
                    panic, "a task for one peer panicked; the others go on"
                );
            }
        });
    }

    // The one place that may start a task.
    #[expect(clippy::disallowed_methods, reason = "this is the home of spawn")]
    fn start(&self, task: impl Future<Output = ()> + Send + 'static) {
        let cut = self.cut.clone();
        let _running = tokio::spawn(self.tracker.track_future(async move {
            tokio::select! {
                () = task => {}
                () = cut.cancelled() => {}
            }
        }));
    }
}

/// Runs a future and turns its panic into an error text.
async fn caught<T>(task: impl Future<Output = T>) -> Result<T, String> {
    let mut task = pin!(task);
    // The future is dropped after a panic and never polled again, so a broken inner state is not seen by anyone.
    poll_fn(
        move |context| match catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(context))) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => Poll::Ready(Err(panic_text(&*panic))),
        },
    )
    .await
}

/// What a panic said, if it said it in words.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without words").to_owned()
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(source) => {
                write!(f, "failed: {source}")?;
                let mut next = source.source();
                while let Some(cause) = next {
                    write!(f, ": {cause}")?;
                    next = cause.source();
                }
                Ok(())
            }
            Self::Panicked(text) => write!(f, "panicked: {text}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::pending;

    use super::*;

    const SOON: Duration = Duration::from_millis(10);
    const LATE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn the_first_failure_stops_all_others() {
        let tasks = Tasks::new(Stop::new());
        let stop = tasks.stop();
        tasks.spawn("waits", async move {
            stop.ordered().await;
            Ok::<_, Infallible>(())
        });
        tasks.spawn("fails", async { Err::<(), _>("no disk") });
        let failure = tasks.run(LATE).await.unwrap_err();
        assert_eq!(failure.to_string(), "task fails failed: no disk");
    }

    #[tokio::test]
    async fn a_panic_is_a_failure() {
        let tasks = Tasks::new(Stop::new());
        tasks.spawn("breaks", async {
            if true {
                panic!("out of cheese")
            } else {
                Ok::<_, Infallible>(())
            }
        });
        let failure = tasks.run(LATE).await.unwrap_err();
        assert_eq!(failure.to_string(), "task breaks panicked: out of cheese");
    }

    #[tokio::test]
    async fn a_panic_for_one_peer_leaves_the_others_alone() {
        let tasks = Tasks::new(Stop::new());
        let stop = tasks.stop();
        tasks
            .spawner()
            .spawn_for_peer("connection", async { panic!("bad peer") });
        tasks.spawn("order", async move {
            stop.order();
            Ok::<_, Infallible>(())
        });
        assert_eq!(tasks.run(LATE).await.unwrap(), Drained::Clean);
    }

    #[tokio::test]
    async fn what_does_not_end_by_the_deadline_is_cut() {
        let tasks = Tasks::new(Stop::new());
        tasks.spawn("stuck", pending::<Result<(), Infallible>>());
        tasks.stop().order();
        assert_eq!(tasks.run(SOON).await.unwrap(), Drained::Cut(1));
    }
}
