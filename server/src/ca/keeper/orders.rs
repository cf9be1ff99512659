//! Carrying out an order of [`life`](crate::ca::life): one commit changes the records and the bundle. It is in the audit log before it is done (I9); one that then fails is
//! there a second time, as failed.

use std::error::Error;

use muster_audit::{Action, Actor, Audit, Event, Object, Outcome};
use muster_pki::bundle::Bundle;
use tracing::{info, warn};

use super::make::Above;
use super::{Keeper, KeeperError};
use crate::ca::life::{Authority, Order, Stage};
use crate::ca::own_bundle::{change_own_bundle, publish, taint, unpublish};
use crate::ca::record::{AuthorityRecord, Kind};
use crate::store::{Change, Expect, Tree};

/// Why an authority never signs or signs no more, as the log says it.
const KEY_GONE: &str = "its key is gone";
const DISABLED: &str = "this server signs no tokens";
const ENDS_TOO_SOON: &str = "it would end too soon";

/// What was done.
pub(super) struct CarriedOut {
    /// Which order: one that can't be carried out may have become another.
    pub(super) order: Order,
    /// The authority that it was about, as it stands now or stood last.
    pub(super) authority: Authority,
}

impl Keeper {
    /// Carries out an order on behalf of `actor`. None: it was about an authority that is not there any more.
    pub(super) async fn carry_out(
        &self,
        kind: Kind,
        order: Order,
        actor: &Actor,
    ) -> Result<Option<CarriedOut>, KeeperError> {
        self.change(kind, order, None, actor).await
    }

    /// Publishes what was made, in the place of what was prepared before.
    pub(super) async fn publish_made(
        &self,
        kind: Kind,
        mut record: AuthorityRecord,
        above: Above,
        actor: &Actor,
    ) -> Result<Option<CarriedOut>, KeeperError> {
        // The time that nodes have to hear of it begins now: an upstream authority may have taken a minute to sign it (I8).
        record.life.issued_at = self.clock.now();
        self.change(kind, Order::Prepare, Some((record, above)), actor)
            .await
    }

    async fn change(
        &self,
        kind: Kind,
        mut order: Order,
        made: Option<(AuthorityRecord, Above)>,
        actor: &Actor,
    ) -> Result<Option<CarriedOut>, KeeperError> {
        let records = self.records(kind)?;
        let held = |id: &String| records.iter().find(|record| record.life.id == *id);
        let (mut loaded, mut why) = (None, None);
        let (made, mut above) =
            made.map_or((None, Above::default()), |(record, above)| (Some(record), above));
        match &order {
            Order::Activate(id) => {
                let Some(next) = held(id) else { return Ok(None) };
                // Before anything is written: one whose key is gone never was active.
                loaded = self.loaded(next).await?;
                if loaded.is_none() {
                    (order, why) = (Order::Discard(id.clone()), Some(KEY_GONE));
                }
            }
            Order::Discard(_) | Order::Retire(_) if kind == Kind::Jwt && !self.ca.signs_tokens() => {
                why = Some(DISABLED);
            }
            Order::Discard(_) => why = Some(ENDS_TOO_SOON),
            Order::Retire(_) => why = Some(KEY_GONE),
            Order::Prepare | Order::Taint(_) | Order::Revoke(_) | Order::Prune(_) => {}
        }
        let (mut changes, mut gone) = (Vec::new(), Vec::new());
        for record in &records {
            match order.leaves(&record.life) {
                None => {
                    changes.push(Change::delete(
                        Tree::Authorities,
                        record.life.id.as_bytes(),
                        Expect::Any,
                    ));
                    gone.push(record.clone());
                }
                Some(stage) if stage != record.life.stage => {
                    let mut record = record.clone();
                    record.life.stage = stage;
                    changes.push(put(&record, Expect::Any));
                }
                Some(_) => {}
            }
        }
        changes.extend(made.iter().map(|made| put(made, Expect::Absent)));
        changes.append(&mut above.told);
        let about = match (&made, order.about()) {
            (Some(made), _) => made.life.clone(),
            (None, Some(id)) => match held(id) {
                Some(record) => Authority {
                    stage: order.leaves(&record.life).unwrap_or(record.life.stage),
                    ..record.life.clone()
                },
                None if matches!(order, Order::Revoke(_) | Order::Taint(_)) => self.foreign(id),
                None => return Ok(None),
            },
            (None, None) => return Ok(None),
        };
        let mut event = event(actor, kind, &order, &about);
        if let Some(why) = why {
            event = event.fact("why", why);
        }
        if let (Some(_), Some(before)) = (&made, gone.first()) {
            event = event.fact("in_place_of", &before.life.id);
        }
        recorded(
            &self.audit,
            event,
            self.commit_with_bundle(changes, |bundle| {
                gone.iter()
                    .for_each(|record| unpublish(bundle, kind, &record.life.id));
                match &order {
                    // Also one that no record is about.
                    Order::Revoke(id) => unpublish(bundle, kind, id),
                    Order::Taint(id) => taint(bundle, kind, id)?,
                    _ => {}
                }
                made.iter().try_for_each(|made| publish(bundle, made))?;
                above.put(bundle)
            }),
        )
        .await?;
        if let Some(loaded) = loaded {
            self.install(loaded);
        }
        self.meter.carried_out(kind, &order);
        tell(kind, &order, &about, why);
        // The records went first: a key without a record is found and destroyed later, a record without its key is a riddle.
        for record in gone {
            if let Err(error) = self.keys.delete(&record.key).await {
                warn!(key = %record.key, error = &error as &dyn Error, "the key of an authority that is gone could not be destroyed; it is tried again");
            }
        }
        Ok(Some(CarriedOut {
            order,
            authority: about,
        }))
    }

    /// An authority of the bundle that another server made, as far as it is known here.
    fn foreign(&self, id: &str) -> Authority {
        let now = self.clock.now();
        Authority {
            id: id.to_owned(),
            issued_at: now,
            not_after: now,
            stage: Stage::Tainted,
            upstream: None,
        }
    }

    /// Commits `changes` together with a change of the bundle, whose sequence grows by one if anything in it changes.
    pub(super) async fn commit_with_bundle(
        &self,
        changes: Vec<Change>,
        change: impl Fn(&mut Bundle) -> Result<(), KeeperError>,
    ) -> Result<(), KeeperError> {
        let hint = self.terms.refresh_hint.as_secs();
        change_own_bundle(
            &self.registry,
            &self.bundles,
            &self.terms.trust_domain,
            changes,
            |bundle| {
                bundle.set_refresh_hint((hint > 0).then_some(hint));
                change(bundle)
            },
        )
        .await
    }
}

/// Does `work` once `event` is on record.
pub(super) async fn recorded(
    audit: &Audit,
    event: Event,
    work: impl Future<Output = Result<(), KeeperError>>,
) -> Result<(), KeeperError> {
    audit.record(event.clone()).await?;
    let done = work.await;
    if let Err(error) = &done {
        let failed = event.outcome(Outcome::failed(error));
        if let Err(error) = audit.record(failed).await {
            warn!(error = &error as &dyn Error, "a failure is not in the audit log");
        }
    }
    done
}

fn put(record: &AuthorityRecord, expect: Expect) -> Change {
    let id = record.life.id.as_bytes();
    Change::put(Tree::Authorities, id, record.to_bytes(), expect)
}

fn event(actor: &Actor, kind: Kind, order: &Order, about: &Authority) -> Event {
    let action = match order {
        Order::Prepare => Action::AuthorityPrepare,
        Order::Activate(_) => Action::AuthorityActivate,
        Order::Discard(_) | Order::Retire(_) => Action::AuthorityRetire,
        Order::Taint(_) => Action::AuthorityTaint,
        Order::Revoke(_) => Action::AuthorityRevoke,
        Order::Prune(_) => Action::AuthorityExpire,
    };
    Event::new(actor.clone(), action, Outcome::Done)
        .object(Object::authority(&about.id))
        .fact("kind", kind.name())
        .fact("expires_at", about.not_after)
}

fn tell(kind: Kind, order: &Order, about: &Authority, why: Option<&str>) {
    let (authority, kind, expires) = (&about.id, kind.name(), about.not_after);
    match order {
        Order::Prepare => info!(authority, kind, %expires, "authority prepared"),
        Order::Activate(_) => info!(authority, kind, %expires, "authority activated"),
        Order::Discard(_) | Order::Retire(_) => {
            warn!(authority, kind, why, "authority retired before its time");
        }
        Order::Taint(_) => {
            warn!(
                authority,
                kind, "authority tainted; everything that it signed is made again"
            );
        }
        Order::Revoke(_) => warn!(
            authority,
            kind, "authority revoked; nothing that it signed counts any more"
        ),
        Order::Prune(_) => info!(authority, kind, "authority pruned"),
    }
}
