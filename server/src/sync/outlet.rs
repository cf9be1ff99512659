use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use futures_util::Stream;
use tokio::sync::mpsc;
use tonic::Status;

/// Where the messages of a stream go in.
#[derive(Debug)]
pub(crate) struct Inlet<T> {
    messages: mpsc::Sender<T>,
    shared: Arc<Mutex<Shared<T>>>,
}

/// Where they come out, for the transport. A refusal overtakes them: who may know nothing more is not told what was on its way, and what was on its way costs no
/// memory while he does not read.
#[derive(Debug)]
pub struct Outlet<T> {
    shared: Arc<Mutex<Shared<T>>>,
}

#[derive(Debug)]
struct Shared<T> {
    messages: mpsc::Receiver<T>,
    refusal: Option<Status>,
}

/// The other end is gone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Gone;

/// A stream on which `room` messages may wait to be read.
pub(crate) fn outlet<T>(room: usize) -> (Inlet<T>, Outlet<T>) {
    let (sender, messages) = mpsc::channel(room);
    let shared = Arc::new(Mutex::new(Shared {
        messages,
        refusal: None,
    }));
    let inlet = Inlet {
        messages: sender,
        shared: Arc::clone(&shared),
    };
    (inlet, Outlet { shared })
}

impl<T> Inlet<T> {
    /// Sends a message, when there is room.
    pub(crate) async fn send(&self, message: T) -> Result<(), Gone> {
        self.messages.send(message).await.map_err(|_| Gone)
    }

    /// Ends the stream with a refusal, at once.
    pub(crate) fn refuse(self, status: Status) {
        let mut shared = lock(&self.shared);
        while shared.messages.try_recv().is_ok() {}
        shared.refusal = Some(status);
        // The sender, dropped with `self`, wakes the reader.
    }
}

impl<T> Stream for Outlet<T> {
    type Item = Result<T, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut shared = lock(&self.shared);
        if let Some(status) = shared.refusal.take() {
            return Poll::Ready(Some(Err(status)));
        }
        shared.messages.poll_recv(cx).map(|message| message.map(Ok))
    }
}

impl<T> Drop for Outlet<T> {
    fn drop(&mut self) {
        // The inlet holds the receiver too; whoever waits for room must learn that nobody reads.
        lock(&self.shared).messages.close();
    }
}

fn lock<T>(shared: &Mutex<Shared<T>>) -> MutexGuard<'_, Shared<T>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use futures_util::StreamExt;

    use super::*;

    #[tokio::test]
    async fn a_refusal_overtakes_what_was_not_read_and_wakes_who_waits() {
        let (inlet, mut outlet) = outlet(2);
        inlet.send(1).await.unwrap();
        inlet.send(2).await.unwrap();
        assert_eq!(outlet.next().await.unwrap().unwrap(), 1);
        inlet.refuse(Status::permission_denied("no"));
        assert!(outlet.next().await.unwrap().is_err());
        assert!(outlet.next().await.is_none());

        let (inlet, mut waiting) = super::outlet::<u8>(1);
        let (ended, ()) = tokio::join!(waiting.next(), async {
            tokio::task::yield_now().await;
            inlet.refuse(Status::permission_denied("no"));
        });
        assert!(ended.unwrap().is_err());
    }

    #[tokio::test]
    async fn what_was_sent_before_a_quiet_end_is_read_and_a_dropped_reader_ends_the_writer() {
        let (inlet, mut open) = outlet(2);
        inlet.send(1).await.unwrap();
        drop(inlet);
        assert_eq!(open.next().await.unwrap().unwrap(), 1);
        assert!(open.next().await.is_none());

        let (inlet, unread) = outlet(1);
        inlet.send(1).await.unwrap();
        let mut full = Box::pin(inlet.send(2));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(full.as_mut().poll(&mut cx).is_pending());
        drop(unread);
        assert_eq!(full.await, Err(Gone));
    }
}
