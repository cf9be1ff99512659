//! Authorities that are being made, beside everything else: a key may take seconds and an upstream authority a minute, and neither what people command nor what is due
//! to authorities of the other kind may wait for that. Of each kind one is made at a time; the record and the bundle are the keeper's alone.

use std::error::Error;
use std::sync::{Mutex, PoisonError};

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use muster_audit::Actor;
use tracing::error;

use super::make::{Above, Maker};
use super::{Keeper, KeeperError};
use crate::ca::authorities::{Asked, CommandError};
use crate::ca::life::Refused;
use crate::ca::record::{AuthorityRecord, Kind};

/// What is under way, and who waits for it.
#[derive(Default)]
pub struct Making {
    /// The lock is never taken: it lets the keeper be looked at from where futures are that can't be shared.
    jobs: Mutex<FuturesUnordered<BoxFuture<'static, Made>>>,
    kinds: Vec<Kind>,
    asked: Vec<Asked>,
}

/// Why something is made.
#[derive(Clone, Debug)]
pub(super) enum Reason {
    /// It is due.
    Due,
    /// Somebody wants it.
    Commanded(Actor),
}

/// What came of one.
pub(super) struct Made {
    kind: Kind,
    reason: Reason,
    outcome: Result<(AuthorityRecord, Above), KeeperError>,
}

impl Making {
    pub(super) fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    /// Waits for the next that is made; none when nothing is. May be dropped and called again.
    pub(super) async fn next(&mut self) -> Option<Made> {
        self.jobs().next().await
    }

    fn jobs(&mut self) -> &mut FuturesUnordered<BoxFuture<'static, Made>> {
        self.jobs.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&mut self, maker: Maker, kind: Kind, reason: Reason) {
        if self.kinds.contains(&kind) {
            return;
        }
        self.kinds.push(kind);
        self.jobs().push(Box::pin(async move {
            let outcome = maker.make(kind).await;
            Made {
                kind,
                reason,
                outcome,
            }
        }));
    }
}

impl Keeper {
    /// Begins to make an authority because it is due, unless one of that kind is being made.
    pub(super) fn begin_due(&mut self, kind: Kind) {
        self.making.begin(self.maker(), kind, Reason::Due);
    }

    /// Has `asked` wait for an authority that is being made, which is begun if there is none.
    pub(super) fn begin_asked(&mut self, asked: Asked) {
        let reason = Reason::Commanded(asked.actor.clone());
        self.making.begin(self.maker(), asked.kind, reason);
        self.making.asked.push(asked);
    }

    /// Publishes what was made, and tells those who wait for it. Fails where what was due is not done.
    pub(super) async fn settle(&mut self, made: Made) -> Result<(), KeeperError> {
        let Made {
            kind,
            reason,
            outcome,
        } = made;
        self.making.kinds.retain(|making| *making != kind);
        let asked = self.making.asked.extract_if(.., |asked| asked.kind == kind);
        let asked: Vec<_> = asked.collect();
        // Who asks for what is due already has asked for it.
        let actor = match (&reason, asked.first()) {
            (Reason::Commanded(actor), _) => actor.clone(),
            (Reason::Due, Some(asked)) => asked.actor.clone(),
            (Reason::Due, None) => Actor::Daemon,
        };
        let done = match outcome {
            Ok((record, above)) => self.publish_made(kind, record, above, &actor).await,
            Err(error) => Err(error),
        };
        if done.is_ok() && !asked.is_empty() {
            // It took the place of what they wait for.
            self.refuse_awaited(kind, |_| true);
        }
        for asked in asked {
            let told = match &done {
                Ok(Some(done)) => Ok(done.authority.clone()),
                Ok(None) => Err(Refused::Unexpected.into()),
                Err(error) => Err(CommandError::failed(error)),
            };
            // Who went away meanwhile needs no answer.
            asked.answer.send(told).ok();
        }
        match (done, reason) {
            (Err(error), Reason::Commanded(_)) => {
                self.meter.failed();
                error!(
                    error = &error as &dyn Error,
                    "an authority could not be changed as commanded"
                );
                Ok(())
            }
            (done, _) => done.map(drop),
        }
    }
}
