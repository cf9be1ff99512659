//! The orders, one by one. Each is in the audit log before it is done (I9); one that then fails is there a second time, as failed.

use std::error::Error;
use std::sync::Arc;

use muster_audit::{Action, Actor, Event, Object, Outcome};
use muster_identity::UnixTime;
use muster_pki::Signer;
use muster_pki::bundle::Bundle;
use muster_pki::x509::{IssuingAuthority, RootProfile, Serial, issue_root};
use muster_plugin_api::KeyName;
use tracing::{info, warn};

use super::{Keeper, KeeperError, Terms};
use crate::ca::life::{Authority, Stage};
use crate::ca::own_bundle::{change_own_bundle, publish};
use crate::ca::record::{AuthorityRecord, Kind};
use crate::store::{Change, Expect, Tree};

const X509_KEYS: &str = "x509-ca-";
const JWT_KEYS: &str = "jwt-signer-";

impl Keeper {
    /// Makes a key and what it signs with, and publishes it.
    pub(super) async fn prepare(&self, kind: Kind) -> Result<(), KeeperError> {
        // What an earlier attempt left: while the disk is full, there is one each time.
        self.forget_stray_keys().await?;
        let random = Serial::random().map_err(|_| KeeperError::Name)?.to_hex();
        let (prefix, algorithm) = match kind {
            Kind::X509 => (X509_KEYS, self.terms.x509_key),
            Kind::Jwt => (JWT_KEYS, self.terms.jwt_key),
        };
        let (began, tail) = (self.clock.now().as_secs(), &random[..random.len().min(16)]);
        let name = format!("{prefix}{began}-{tail}");
        let key: KeyName = name.parse().map_err(|_| KeeperError::Name)?;
        let signer = self.keys.generate(&key, algorithm).await?;
        // Its life, and the time that nodes have to hear of it, begin now: a large key takes seconds to make.
        let now = self.clock.now();
        let not_after = now.saturating_add(self.terms.lifetime.duration());
        let (id, public) = match kind {
            Kind::X509 => {
                let root = self.make_root(signer, now).await?;
                let authority = root.authority();
                (authority.id().to_string(), authority.der().to_vec())
            }
            // The key id is random and no hash of the key: verifiers may take nothing from it.
            Kind::Jwt => (random, signer.public_key().spki_der().to_vec()),
        };
        let life = Authority {
            id,
            issued_at: now,
            not_after,
            stage: Stage::Prepared,
        };
        let record = AuthorityRecord {
            kind,
            life,
            key,
            public,
        };
        self.recorded(event(Action::AuthorityPrepare, &record), async {
            let put = put(&record, Expect::Absent);
            self.commit_with_bundle(vec![put], |bundle| publish(bundle, &record))
                .await
        })
        .await?;
        info!(authority = %record.life.id, ?kind, expires = %not_after, "authority prepared");
        Ok(())
    }

    async fn make_root(
        &self,
        signer: Arc<dyn Signer>,
        now: UnixTime,
    ) -> Result<IssuingAuthority, KeeperError> {
        let Terms {
            trust_domain,
            subject,
            lifetime,
            ..
        } = self.terms.clone();
        let profile = RootProfile {
            trust_domain,
            subject,
            now,
            lifetime,
        };
        Ok(self.ca.pool().run(move || issue_root(signer, &profile)).await??)
    }

    /// Lets a prepared authority sign, and the active one no more.
    pub(super) async fn activate(&self, kind: Kind, id: &str) -> Result<(), KeeperError> {
        let records = self.records(kind)?;
        let Some(next) = records.iter().find(|record| record.life.id == id) else {
            return Ok(());
        };
        // Before anything is written: one whose key is gone never was active.
        let Some(loaded) = self.loaded(next).await? else {
            return self.retire(kind, id, "its key is gone").await;
        };
        let staged = records.iter().filter_map(|record| {
            let mut record = record.clone();
            record.life.stage = match record.life.stage {
                Stage::Prepared if record.life.id == id => Stage::Active,
                Stage::Active => Stage::Old,
                _ => return None,
            };
            Some(put(&record, Expect::Any))
        });
        let changes = staged.collect();
        self.recorded(event(Action::AuthorityActivate, next), async {
            self.registry.commit(changes).await?;
            Ok(())
        })
        .await?;
        self.install(loaded);
        info!(authority = id, ?kind, expires = %next.life.not_after, "authority activated");
        Ok(())
    }

    /// Lets an authority sign no more; it stays in the bundle for what it has signed.
    pub(super) async fn retire(&self, kind: Kind, id: &str, why: &str) -> Result<(), KeeperError> {
        let Some(mut record) = self
            .records(kind)?
            .into_iter()
            .find(|record| record.life.id == id)
        else {
            return Ok(());
        };
        record.life.stage = Stage::Old;
        let event = event(Action::AuthorityRetire, &record).fact("why", why);
        self.recorded(event, async {
            self.registry.commit(vec![put(&record, Expect::Any)]).await?;
            Ok(())
        })
        .await?;
        warn!(authority = id, ?kind, why, "authority retired before its time");
        Ok(())
    }

    /// Takes an authority out of the bundle and destroys its key.
    pub(super) async fn prune(&self, kind: Kind, id: &str) -> Result<(), KeeperError> {
        let Some(record) = self
            .records(kind)?
            .into_iter()
            .find(|record| record.life.id == id)
        else {
            return Ok(());
        };
        self.recorded(event(Action::AuthorityExpire, &record), async {
            let delete = Change::delete(Tree::Authorities, id.as_bytes(), Expect::Any);
            self.commit_with_bundle(vec![delete], |bundle| {
                match kind {
                    Kind::X509 => bundle.retain_x509_authorities(|authority| authority.id().as_str() != id),
                    Kind::Jwt => bundle.retain_jwt_authorities(|authority| authority.key_id().as_str() != id),
                };
                Ok(())
            })
            .await?;
            // The record went first: a key without a record is found and destroyed later, a record without its key is a riddle.
            Ok(self.keys.delete(&record.key).await?)
        })
        .await?;
        info!(authority = id, ?kind, "authority pruned");
        Ok(())
    }

    /// Destroys keys of ours that no record names: a crash between key and commit leaves one.
    pub(super) async fn forget_stray_keys(&self) -> Result<(), KeeperError> {
        let mut named = self.records(Kind::X509)?;
        named.extend(self.records(Kind::Jwt)?);
        for key in self.keys.list().await? {
            let ours = key.as_str().starts_with(X509_KEYS) || key.as_str().starts_with(JWT_KEYS);
            if ours && !named.iter().any(|record| record.key == key) {
                warn!(%key, "a key that no authority names is destroyed");
                let event =
                    Event::new(Actor::Daemon, Action::KeyDestroy, Outcome::Done).object(Object::key(&key));
                self.recorded(event, async { Ok(self.keys.delete(&key).await?) })
                    .await?;
            }
        }
        Ok(())
    }

    /// Commits `changes` together with a change of the bundle, whose sequence grows by one.
    async fn commit_with_bundle(
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

    /// Does `work` once `event` is on record.
    async fn recorded(
        &self,
        event: Event,
        work: impl Future<Output = Result<(), KeeperError>>,
    ) -> Result<(), KeeperError> {
        self.audit.record(event.clone()).await?;
        let done = work.await;
        if let Err(error) = &done {
            let failed = event.outcome(Outcome::failed(error));
            if let Err(error) = self.audit.record(failed).await {
                warn!(error = &error as &dyn Error, "a failure is not in the audit log");
            }
        }
        done
    }
}

fn put(record: &AuthorityRecord, expect: Expect) -> Change {
    let id = record.life.id.as_bytes();
    Change::put(Tree::Authorities, id, record.to_bytes(), expect)
}

fn event(action: Action, record: &AuthorityRecord) -> Event {
    let kind = match record.kind {
        Kind::X509 => "x509",
        Kind::Jwt => "jwt",
    };
    Event::new(Actor::Daemon, action, Outcome::Done)
        .object(Object::authority(&record.life.id))
        .fact("kind", kind)
        .fact("expires_at", record.life.not_after)
}
