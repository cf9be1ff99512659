//! Ending every connection of a door at once: the last step of stopping.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Ends all connections of a door. A server that stops waits for its connections, and a client may keep one open for
/// ever: when the drain deadline has passed, cut.
#[derive(Clone, Debug, Default)]
pub struct Cutter(CancellationToken);

impl Cutter {
    /// Ends every connection of the door, present and future.
    pub fn cut(&self) {
        self.0.cancel();
    }

    pub(crate) fn watch(&self) -> Cut {
        Cut(Box::pin(self.0.clone().cancelled_owned()))
    }
}

/// One connection's view of its door's [`Cutter`].
pub(crate) struct Cut(Pin<Box<WaitForCancellationFutureOwned>>);

impl Cut {
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cut")
    }
}
