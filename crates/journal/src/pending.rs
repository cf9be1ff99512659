use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::AppendError;

/// An answer that is still on its way to the disk: a future, and for plain threads [`Pending::wait`].
#[derive(Debug)]
#[must_use = "a record is durable only when this has resolved"]
pub struct Pending {
    slot: Arc<Slot>,
}

/// The writer's end.
#[derive(Debug)]
pub(crate) struct Promise {
    slot: Arc<Slot>,
}

#[derive(Debug, Default)]
struct Slot {
    state: Mutex<State>,
    done: Condvar,
}

#[derive(Debug, Default)]
struct State {
    answer: Option<Result<u64, AppendError>>,
    waker: Option<Waker>,
}

pub(crate) fn pair() -> (Promise, Pending) {
    let slot = Arc::new(Slot::default());
    (Promise { slot: slot.clone() }, Pending { slot })
}

impl Promise {
    pub(crate) fn keep(self, answer: Result<u64, AppendError>) {
        let waker = {
            let mut state = self.slot.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.answer = Some(answer);
            state.waker.take()
        };
        self.slot.done.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Pending {
    pub(crate) fn ready(answer: Result<u64, AppendError>) -> Self {
        let (promise, pending) = pair();
        promise.keep(answer);
        pending
    }

    /// Waits on this thread. Not for threads that drive futures.
    ///
    /// # Errors
    /// Why the record is not durable.
    pub fn wait(self) -> Result<u64, AppendError> {
        let mut state = self.slot.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(answer) = &state.answer {
                return answer.clone();
            }
            state = self.slot.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Future for Pending {
    type Output = Result<u64, AppendError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.slot.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &state.answer {
            Some(answer) => Poll::Ready(answer.clone()),
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}
