//! How the rest of the server speaks to the keeper: it asks what there is, and commands. Never past the one task that carries things out.

use std::error::Error;
use std::time::Duration;

use muster_audit::Actor;
use tokio::sync::{mpsc, oneshot};

use super::life::{Authority, Command, Refused};
use super::record::{AuthorityRecord, Kind, RecordError};
use crate::registry::{Registry, View};
use crate::store::Tree;

/// How many commands may wait. Few people command authorities, and each waits for an answer.
const MOST_WAITING: usize = 16;

/// How long an outcome is waited for. Nodes that hear of an authority take eleven seconds at most; only an upstream authority that does not answer takes longer.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// The authorities of this server. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Authorities {
    registry: Registry,
    commands: mpsc::Sender<Asked>,
    answer_within: Duration,
}

/// The commands, for the keeper.
#[derive(Debug)]
pub struct Commands(pub(super) mpsc::Receiver<Asked>);

/// A command and who waits for its outcome.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) kind: Kind,
    pub(super) command: Command,
    pub(super) actor: Actor,
    pub(super) answer: oneshot::Sender<Result<Authority, CommandError>>,
}

/// Why a command was not done.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It may not be done.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The prepared authority's key is gone, so it will never sign.
    #[error("the prepared authority has lost its key; prepare another")]
    KeyGone,
    /// It could not be done.
    #[error("{0}")]
    Failed(String),
    /// It takes long, and may be done yet.
    #[error(
        "not done within {} s; it goes on: look whether it was done before you try again",
        ANSWER_WITHIN.as_secs()
    )]
    Slow,
    /// Too many commands wait.
    #[error("too many commands are waiting")]
    Busy,
    /// The server stops.
    #[error("the server is stopping")]
    Stopped,
}

impl Authorities {
    /// The handle, and what the keeper is to be given.
    pub fn new(registry: Registry) -> (Self, Commands) {
        let (commands, asked) = mpsc::channel(MOST_WAITING);
        let authorities = Self {
            registry,
            commands,
            answer_within: ANSWER_WITHIN,
        };
        (authorities, Commands(asked))
    }

    /// All of this kind that are held.
    pub fn held(&self, kind: Kind) -> Result<Vec<Authority>, RecordError> {
        let records = records(&self.registry.view(), kind)?;
        Ok(records.into_iter().map(|record| record.life).collect())
    }

    /// Has a command carried out on behalf of `actor`, and answers what the authority then is. Activating waits until the nodes hold what will sign, preparing
    /// for the upstream authority; an outcome that is not there within twenty seconds is not waited for.
    pub async fn command(
        &self,
        kind: Kind,
        command: Command,
        actor: Actor,
    ) -> Result<Authority, CommandError> {
        let (answer, answered) = oneshot::channel();
        let asked = Asked {
            kind,
            command,
            actor,
            answer,
        };
        self.commands.try_send(asked).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => CommandError::Busy,
            mpsc::error::TrySendError::Closed(_) => CommandError::Stopped,
        })?;
        match tokio::time::timeout(self.answer_within, answered).await {
            Ok(answered) => answered.unwrap_or(Err(CommandError::Stopped)),
            Err(_) => Err(CommandError::Slow),
        }
    }
}

impl CommandError {
    pub(super) fn failed(error: &dyn Error) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        Self::Failed(text)
    }
}

/// The records of this kind that the log has.
pub(super) fn records(view: &View, kind: Kind) -> Result<Vec<AuthorityRecord>, RecordError> {
    let each = view
        .documents(Tree::Authorities)
        .map(|(id, doc)| AuthorityRecord::from_bytes(id, &doc.value));
    let all = each.collect::<Result<Vec<_>, _>>()?;
    Ok(all.into_iter().filter(|record| record.kind == kind).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use muster_identity::StoreId;

    use super::*;
    use crate::store::Memory;

    #[tokio::test]
    async fn who_commands_is_not_kept_waiting_by_an_upstream_that_does_not_answer() {
        let store = Arc::new(Memory::new(StoreId::from_bytes([7; 16])));
        let (registry, _committer) =
            Registry::open(store, "example.org".parse().unwrap(), Vec::new()).unwrap();
        let (mut authorities, mut commands) = Authorities::new(registry);
        authorities.answer_within = Duration::from_millis(1);
        let asked = authorities.command(Kind::X509, Command::Prepare, Actor::Daemon);
        let kept = async { commands.0.recv().await };
        let (told, _kept) = tokio::join!(asked, kept);
        assert!(matches!(told, Err(CommandError::Slow)), "{told:?}");
    }
}
