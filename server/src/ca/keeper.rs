//! Carries out what [`life`] orders: the one task that makes, activates and removes authorities.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use muster_audit::{Action, Actor, Audit, AuditError, Event, Object, Outcome};
use muster_identity::{Lifetime, TrustDomain, UnixTime};
use muster_pki::bundle::{Bundle, KeyIdTaken};
use muster_pki::jwt::{JwtAuthority, ParseKeyIdError};
use muster_pki::x509::{
    AuthorityError, IssueError, IssuingAuthority, Name, RootProfile, Serial, X509Authority, issue_root,
};
use muster_pki::{KeyAlgorithm, PublicKey, PublicKeyError, Signer};
use muster_plugin_api::{KeyManager, KeyManagerError, KeyName};
use muster_runtime::{Backoff, Clock, Condition, SigningPoolError, Stop};
use tracing::{error, info, warn};

use super::life::{self, Authority, Order, Stage};
use super::record::{AuthorityRecord, Kind, RecordError};
use super::sign::{Ca, JwtSigner};
use crate::bundles::{BundleRecordError, Bundles, bundle_from_bytes, bundle_to_bytes};
use crate::registry::{CommitError, Registry, View};
use crate::store::{Change, Expect, Tree};

/// The first and the longest wait after a failure.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// What authorities are to be.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Whose they are.
    pub trust_domain: TrustDomain,
    /// The name that certificates of authorities bear.
    pub subject: Name,
    /// How long an authority lives.
    pub lifetime: Lifetime,
    /// The key that signs certificates.
    pub x509_key: KeyAlgorithm,
    /// The key that signs tokens.
    pub jwt_key: KeyAlgorithm,
    /// What verifiers are told about how often to fetch the bundle.
    pub refresh_hint: Duration,
}

/// The task that keeps the authorities.
pub struct Keeper {
    pub(crate) terms: Terms,
    pub(crate) ca: Ca,
    pub(crate) keys: Arc<dyn KeyManager>,
    pub(crate) registry: Registry,
    pub(crate) bundles: Bundles,
    pub(crate) audit: Audit,
    pub(crate) clock: Arc<dyn Clock>,
}

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// The key manager failed.
    #[error("the key manager failed")]
    Keys(#[from] KeyManagerError),
    /// A record in the log can't be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The bundle in the log can't be read.
    #[error(transparent)]
    Bundle(#[from] BundleRecordError),
    /// The certificate of an authority in the log can't be used.
    #[error("the certificate of authority {id} can't be used")]
    Certificate {
        /// Which authority.
        id: String,
        /// Why.
        source: AuthorityError,
    },
    /// The public key of an authority in the log can't be used.
    #[error("the public key of authority {id} can't be used")]
    PublicKey {
        /// Which authority.
        id: String,
        /// Why.
        source: PublicKeyError,
    },
    /// A certificate for an authority could not be made.
    #[error("making an authority")]
    Issue(#[from] IssueError),
    /// The signing pool did not do it.
    #[error(transparent)]
    Pool(#[from] SigningPoolError),
    /// The log did not take the change.
    #[error("writing to the log")]
    Commit(#[from] CommitError),
    /// The audit log did not take the record.
    #[error("writing to the audit log")]
    Audit(#[from] AuditError),
    /// No random bytes for a name.
    #[error("no random bytes for the name of a key")]
    Name,
    /// The name of a token-signing key can't be used.
    #[error("the name of a token-signing key can't be used")]
    KeyId(#[from] ParseKeyIdError),
    /// Two keys of one name.
    #[error(transparent)]
    KeyIdTaken(#[from] KeyIdTaken),
}

impl Keeper {
    /// Does what is due now, so that afterwards both authorities sign or an error says why not. Called once before the doors open.
    pub async fn start(&self) -> Result<(), KeeperError> {
        self.turn().await?;
        self.forget_stray_keys().await
    }

    /// Keeps the authorities until the stop is ordered. `standing` says whether it succeeds.
    pub async fn run(self, standing: Condition, stop: Stop) -> Result<(), std::convert::Infallible> {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        loop {
            let wake = match self.turn().await {
                Ok(wake) => {
                    standing.holds();
                    backoff.reset();
                    wake
                }
                Err(error) => {
                    let wait = backoff.next_wait();
                    let error = &error as &dyn Error;
                    error!(error, retry_in = ?wait, "an authority could not be kept; what is valid goes on signing");
                    standing.fails(format!("an authority could not be kept: {error}"));
                    self.clock.now().saturating_add(wait.max(Duration::from_secs(1)))
                }
            };
            tokio::select! {
                () = stop.ordered() => return Ok(()),
                () = self.clock.sleep_until(wake) => {}
            }
        }
    }

    /// Carries out every order that is due, for both kinds. Answers when to come back.
    async fn turn(&self) -> Result<UnixTime, KeeperError> {
        let x509 = self.turn_of(Kind::X509).await?;
        Ok(x509.min(self.turn_of(Kind::Jwt).await?))
    }

    async fn turn_of(&self, kind: Kind) -> Result<UnixTime, KeeperError> {
        let lifetimes = self.ca.lifetimes();
        let longest = match kind {
            Kind::X509 => lifetimes.max_x509_svid,
            Kind::Jwt => lifetimes.max_jwt_svid,
        };
        loop {
            self.load(kind).await?;
            let now = self.clock.now();
            let held: Vec<Authority> = self
                .records(kind)?
                .into_iter()
                .map(|record| record.life)
                .collect();
            match life::due(&held, longest.duration(), now) {
                None => return Ok(life::next_wake(&held, now)),
                Some(Order::Prepare) => self.prepare(kind, now).await?,
                Some(Order::Activate(id)) => self.activate(kind, &id).await?,
                Some(Order::Retire(id)) => self.retire(kind, &id).await?,
                Some(Order::Prune(id)) => self.prune(kind, &id).await?,
            }
        }
    }

    /// Makes the active authority of the log the one that signs. One whose key is gone can't sign any more and becomes old.
    async fn load(&self, kind: Kind) -> Result<(), KeeperError> {
        let records = self.records(kind)?;
        let Some(active) = records.iter().find(|record| record.life.stage == Stage::Active) else {
            return Ok(());
        };
        if self.ca.signs_with(kind, &active.life.id) {
            return Ok(());
        }
        let Some(signer) = self.keys.load(&active.key).await? else {
            warn!(authority = %active.life.id, key = %active.key, "the key of the active authority is gone; it signs no more");
            return self.retire(kind, &active.life.id).await;
        };
        match kind {
            Kind::X509 => {
                let certificate = |source| KeeperError::Certificate {
                    id: active.life.id.clone(),
                    source,
                };
                let authority = X509Authority::from_der(&active.public).map_err(certificate)?;
                self.ca
                    .activate_x509(Some(IssuingAuthority::new(authority, Vec::new(), signer)?));
            }
            Kind::Jwt => {
                let key_id = active.life.id.parse()?;
                self.ca.activate_jwt(Some(JwtSigner {
                    key_id,
                    not_after: active.life.not_after,
                    signer,
                }));
            }
        }
        Ok(())
    }

    async fn prepare(&self, kind: Kind, now: UnixTime) -> Result<(), KeeperError> {
        let random = Serial::random().map_err(|_| KeeperError::Name)?.to_hex();
        let (prefix, algorithm) = match kind {
            Kind::X509 => (X509_KEYS, self.terms.x509_key),
            Kind::Jwt => (JWT_KEYS, self.terms.jwt_key),
        };
        let name = format!("{prefix}{}-{}", now.as_secs(), &random[..random.len().min(16)]);
        let key: KeyName = name.parse().map_err(|_| KeeperError::Name)?;
        let signer = self.keys.generate(&key, algorithm).await?;
        let not_after = now.saturating_add(self.terms.lifetime.duration());
        let life = |id: String| Authority {
            id,
            issued_at: now,
            not_after,
            stage: Stage::Prepared,
        };
        let record = match kind {
            Kind::X509 => {
                let authority = self.make_root(signer, now).await?;
                let authority = authority.authority();
                AuthorityRecord {
                    kind,
                    life: life(authority.id().to_string()),
                    key,
                    public: authority.der().to_vec(),
                }
            }
            Kind::Jwt => {
                // The key id is random and no hash of the key: verifiers may take nothing from it.
                let public = signer.public_key().spki_der().to_vec();
                AuthorityRecord {
                    kind,
                    life: life(random),
                    key,
                    public,
                }
            }
        };
        let put = Change::put(
            Tree::Authorities,
            record.life.id.as_bytes(),
            record.to_bytes(),
            Expect::Absent,
        );
        self.commit_with_bundle(vec![put], |bundle| publish(bundle, &record))
            .await?;
        info!(authority = %record.life.id, ?kind, expires = %not_after, "authority prepared");
        self.tell(Action::AuthorityPrepare, kind, &record.life).await
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

    async fn activate(&self, kind: Kind, id: &str) -> Result<(), KeeperError> {
        let mut changes = Vec::new();
        let mut activated = None;
        for mut record in self.records(kind)? {
            record.life.stage = match record.life.stage {
                Stage::Prepared if record.life.id == id => Stage::Active,
                Stage::Active => Stage::Old,
                _ => continue,
            };
            changes.push(Change::put(
                Tree::Authorities,
                record.life.id.as_bytes(),
                record.to_bytes(),
                Expect::Any,
            ));
            if record.life.stage == Stage::Active {
                activated = Some(record.life);
            }
        }
        self.registry.commit(changes).await?;
        self.load(kind).await?;
        let Some(life) = activated else { return Ok(()) };
        info!(authority = id, ?kind, expires = %life.not_after, "authority activated");
        self.tell(Action::AuthorityActivate, kind, &life).await
    }

    /// Lets an authority sign no more; it stays in the bundle for what it has signed.
    async fn retire(&self, kind: Kind, id: &str) -> Result<(), KeeperError> {
        let Some(mut record) = self
            .records(kind)?
            .into_iter()
            .find(|record| record.life.id == id)
        else {
            return Ok(());
        };
        record.life.stage = Stage::Old;
        let put = Change::put(Tree::Authorities, id.as_bytes(), record.to_bytes(), Expect::Any);
        self.registry.commit(vec![put]).await?;
        warn!(authority = id, ?kind, "authority retired before its time");
        Ok(())
    }

    async fn prune(&self, kind: Kind, id: &str) -> Result<(), KeeperError> {
        let Some(record) = self
            .records(kind)?
            .into_iter()
            .find(|record| record.life.id == id)
        else {
            return Ok(());
        };
        let delete = Change::delete(Tree::Authorities, id.as_bytes(), Expect::Any);
        self.commit_with_bundle(vec![delete], |bundle| {
            match kind {
                Kind::X509 => bundle.retain_x509_authorities(|authority| authority.id().as_str() != id),
                Kind::Jwt => bundle.retain_jwt_authorities(|authority| authority.key_id().as_str() != id),
            };
            Ok(())
        })
        .await?;
        // The record went first: a key without a record is found and destroyed at the next start, a record without its key is a riddle.
        self.keys.delete(&record.key).await?;
        info!(authority = id, ?kind, "authority pruned");
        self.tell(Action::AuthorityExpire, kind, &record.life).await
    }

    /// Destroys keys of ours that no record names: a crash between key and commit leaves one.
    async fn forget_stray_keys(&self) -> Result<(), KeeperError> {
        let mut named = self.records(Kind::X509)?;
        named.extend(self.records(Kind::Jwt)?);
        for key in self.keys.list().await? {
            let ours = key.as_str().starts_with(X509_KEYS) || key.as_str().starts_with(JWT_KEYS);
            if ours && !named.iter().any(|record| record.key == key) {
                warn!(%key, "a key that no authority names is destroyed");
                self.keys.delete(&key).await?;
            }
        }
        Ok(())
    }

    fn records(&self, kind: Kind) -> Result<Vec<AuthorityRecord>, KeeperError> {
        let view = self.registry.view();
        let each = view
            .documents(Tree::Authorities)
            .map(|(id, doc)| AuthorityRecord::from_bytes(id, &doc.value));
        let all = each.collect::<Result<Vec<_>, _>>()?;
        Ok(all.into_iter().filter(|record| record.kind == kind).collect())
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

    async fn tell(&self, action: Action, kind: Kind, life: &Authority) -> Result<(), KeeperError> {
        let event = Event::new(Actor::Daemon, action, Outcome::Done)
            .object(Object::authority(&life.id))
            .fact("kind", if kind == Kind::X509 { "x509" } else { "jwt" })
            .fact("expires_at", life.not_after);
        self.audit.record(event).await?;
        Ok(())
    }
}

const X509_KEYS: &str = "x509-ca-";
const JWT_KEYS: &str = "jwt-signer-";

/// How often a change of the bundle is tried again when somebody else changed it meanwhile.
const TRIES: usize = 8;

/// Changes our own bundle in one commit with `changes`; the sequence grows by one. Shared by the keeper and the Bundle service.
pub(crate) async fn change_own_bundle<E>(
    registry: &Registry,
    bundles: &Bundles,
    trust_domain: &TrustDomain,
    changes: Vec<Change>,
    change: impl Fn(&mut Bundle) -> Result<(), E>,
) -> Result<(), E>
where
    E: From<CommitError> + From<BundleRecordError>,
{
    let name = trust_domain.as_str().as_bytes();
    let mut tries = 0;
    loop {
        let view: Arc<View> = registry.view();
        let (mut bundle, expect) = match view.document(Tree::Bundles, name) {
            Some(document) => (bundle_from_bytes(&document.value)?, Expect::At(document.version)),
            None => (Bundle::new(trust_domain.clone()), Expect::Absent),
        };
        let before = bundle.clone();
        change(&mut bundle)?;
        let mut all = changes.clone();
        if bundle != before {
            bundle.set_sequence(Some(before.sequence().unwrap_or(0) + 1));
            all.push(Change::put(Tree::Bundles, name, bundle_to_bytes(&bundle), expect));
        }
        tries += 1;
        match registry.commit(all).await {
            Err(CommitError::Conflict(_)) if tries < TRIES => {}
            Err(error) => return Err(error.into()),
            Ok(_) => return Ok(bundles.refresh(&registry.view())?),
        }
    }
}

fn publish(bundle: &mut Bundle, record: &AuthorityRecord) -> Result<(), KeeperError> {
    let id = &record.life.id;
    match record.kind {
        Kind::X509 => {
            let certificate = |source| KeeperError::Certificate {
                id: id.clone(),
                source,
            };
            bundle.put_x509_authority(X509Authority::from_der(&record.public).map_err(certificate)?);
        }
        Kind::Jwt => {
            let key = |source| KeeperError::PublicKey {
                id: id.clone(),
                source,
            };
            let key = PublicKey::from_spki_der(&record.public).map_err(key)?;
            let authority = JwtAuthority::new(id.parse()?, key).with_expiry(Some(record.life.not_after));
            bundle.put_jwt_authority(authority)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
