use muster_identity::TrustDomain;
use tokio::sync::{mpsc, oneshot};

use super::{Peers, Statuses};

/// How the rest of the server speaks to the task. Clones share it.
#[derive(Clone, Debug)]
pub struct Federation {
    pub(super) wishes: mpsc::Sender<Wish>,
    pub(super) statuses: Statuses,
    pub(super) peers: Peers,
}

/// What is wished of the task.
#[derive(Debug)]
pub(super) enum Wish {
    Refresh(TrustDomain, oneshot::Sender<Result<(), RefreshError>>),
    UnknownKey(TrustDomain),
}

/// Why a bundle was not refreshed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RefreshError {
    /// Nobody knows from where.
    #[error("no relationship with trust domain \"{0}\"")]
    Unknown(TrustDomain),
    /// It was tried; the text says why it did not work.
    #[error("{0}")]
    Failed(String),
    /// Too much is wished for.
    #[error("too many refreshes are asked for")]
    Busy,
    /// The server stops.
    #[error("the server is stopping")]
    Stopping,
}

impl Federation {
    /// Fetches the bundle of a peer now; answers when that is done.
    pub async fn refresh(&self, trust_domain: &TrustDomain) -> Result<(), RefreshError> {
        let (answer, answered) = oneshot::channel();
        let wish = Wish::Refresh(trust_domain.clone(), answer);
        self.wishes.try_send(wish).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => RefreshError::Busy,
            mpsc::error::TrySendError::Closed(_) => RefreshError::Stopping,
        })?;
        answered.await.unwrap_or(Err(RefreshError::Stopping))
    }

    /// A key of `trust_domain` was met that its bundle lacks. Anybody can cause that, so half of the room is kept for those who ask for a refresh; a wish that finds
    /// none is one that others made.
    pub fn met_unknown_key(&self, trust_domain: &TrustDomain) {
        if self.wishes.capacity() > self.wishes.max_capacity() / 2 {
            self.wishes.try_send(Wish::UnknownKey(trust_domain.clone())).ok();
        }
    }

    /// How it stands with the peers.
    pub fn statuses(&self) -> &Statuses {
        &self.statuses
    }

    /// Who the peers are.
    pub fn peers(&self) -> &Peers {
        &self.peers
    }
}
