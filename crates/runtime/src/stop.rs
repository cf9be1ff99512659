//! The order to stop, given once and seen by everyone who holds a clone.

use tokio_util::sync::CancellationToken;

/// An order to stop that can be given once and is then true for ever. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    token: CancellationToken,
}

impl Stop {
    /// A stop that nobody has ordered yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A stop that is ordered with this one, but can also be ordered alone.
    pub fn child(&self) -> Self {
        Self {
            token: self.token.child_token(),
        }
    }

    /// Gives the order. Giving it again changes nothing.
    pub fn order(&self) {
        self.token.cancel();
    }

    /// Whether the order was given.
    pub fn is_ordered(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Returns when the order is given, at once if it was.
    pub async fn ordered(&self) {
        self.token.cancelled().await;
    }

    /// Like [`Stop::ordered`], for those who need a future that borrows nothing.
    pub fn ordered_owned(&self) -> impl Future<Output = ()> + Send + 'static {
        self.token.clone().cancelled_owned()
    }
}
