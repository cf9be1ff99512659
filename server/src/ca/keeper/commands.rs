//! What people command. All goes by [`decide`]; only an activation may have to wait for the nodes (I8), and what is to be made until it is made.

use std::error::Error;

use muster_audit::Actor;
use tracing::error;

use super::{Keeper, KeeperError};
use crate::ca::authorities::{Asked, CommandError};
use crate::ca::life::{self, Command, Order, Published, Refused, decide};
use crate::ca::own_bundle::published;
use crate::ca::record::Kind;

/// Activations that were commanded and are waited for.
#[derive(Debug, Default)]
pub struct Awaited(Vec<(String, Asked)>);

impl Awaited {
    /// The authority of this kind that somebody waits for.
    pub(super) fn of(&self, kind: Kind) -> Option<&str> {
        let mut of_kind = self.0.iter().filter(|(_, asked)| asked.kind == kind);
        of_kind.next().map(|(id, _)| id.as_str())
    }

    fn take(&mut self, kind: Kind, about: impl Fn(&str) -> bool) -> Vec<Asked> {
        let taken = self
            .0
            .extract_if(.., |(id, asked)| asked.kind == kind && about(id));
        taken.map(|(_, asked)| asked).collect()
    }
}

impl Keeper {
    /// Does what was asked, or has it wait, or says why not.
    pub(super) async fn command(&mut self, asked: Asked) {
        let kind = asked.kind;
        let order = match self.decided(kind, &asked.command) {
            Ok(order) => order,
            Err(error) => return answer(asked, Err(error)),
        };
        if let Order::Activate(id) = order {
            return self.awaited.0.push((id, asked));
        }
        if order == Order::Prepare {
            return self.begin_asked(asked);
        }
        match self.carry_out(kind, order, &asked.actor).await {
            Ok(Some(done)) => answer(asked, Ok(done.authority)),
            Ok(None) => answer(asked, Err(Refused::Unexpected.into())),
            Err(error) => {
                self.meter.failed();
                error!(
                    error = &error as &dyn Error,
                    "an authority could not be changed as commanded"
                );
                answer(asked, Err(CommandError::failed(&error)));
            }
        }
    }

    /// Carries out what came due, on behalf of whoever waits for it.
    pub(super) async fn carry_out_due(&mut self, kind: Kind, order: Order) -> Result<(), KeeperError> {
        let Order::Activate(id) = &order else {
            let discarded = match &order {
                Order::Discard(id) => Some(id.clone()),
                _ => None,
            };
            self.carry_out(kind, order, &Actor::Daemon).await?;
            self.refuse_awaited(kind, |id| discarded.as_deref() == Some(id));
            return Ok(());
        };
        let waiting = self.awaited.take(kind, |awaited| awaited == id);
        let actor = waiting.first().map_or(Actor::Daemon, |asked| asked.actor.clone());
        let done = self.carry_out(kind, order, &actor).await;
        for asked in waiting {
            let told = match &done {
                Ok(Some(done)) if matches!(done.order, Order::Activate(_)) => Ok(done.authority.clone()),
                Ok(Some(_)) => Err(CommandError::KeyGone),
                Ok(None) => Err(Refused::Unexpected.into()),
                Err(error) => Err(CommandError::failed(error)),
            };
            answer(asked, told);
        }
        done.map(drop)
    }

    fn decided(&self, kind: Kind, command: &Command) -> Result<Order, CommandError> {
        let held = self.held(kind).map_err(|error| CommandError::failed(&error))?;
        let published = match command {
            Command::Revoke(id) | Command::Taint(id) => published(&self.bundles.own(), kind, id),
            _ => Published::Absent,
        };
        let now = self.clock.now();
        Ok(decide(
            kind,
            &held,
            published,
            command,
            self.longest_leaf(kind),
            now,
        )?)
    }

    /// Those who wait for an authority that will never sign are told so.
    pub(super) fn refuse_awaited(&mut self, kind: Kind, about: impl Fn(&str) -> bool) {
        for asked in self.awaited.take(kind, about) {
            answer(asked, Err(Refused::Unexpected.into()));
        }
    }
}

/// Who went away meanwhile needs no answer.
fn answer(asked: Asked, answer: Result<life::Authority, CommandError>) {
    asked.answer.send(answer).ok();
}
