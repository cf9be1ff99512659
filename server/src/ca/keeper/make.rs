//! Making an authority: its key, and the certificate or the name that it signs under. What of it becomes public is the next step's matter.

use std::sync::Arc;

use muster_audit::{Action, Actor, Audit, Event, Object, Outcome};
use muster_identity::UnixTime;
use muster_pki::Signer;
use muster_pki::bundle::{AuthorityStanding, Bundle};
use muster_pki::jwt::JwtAuthority;
use muster_pki::x509::{
    IssueError, IssuingAuthority, NameAttribute, RootProfile, Serial, UpheldAuthority, X509Authority,
    create_authority_csr, issue_root,
};
use muster_plugin_api::{AuthorityRequest, KeyManager, KeyName, SignedAuthority};
use muster_runtime::Clock;
use tracing::warn;

use super::orders::recorded;
use super::{KeeperError, Terms};
use crate::ca::authorities::records;
use crate::ca::life::{Authority, Stage};
use crate::ca::origin::Origins;
use crate::ca::own_bundle::own_bundle;
use crate::ca::record::{AuthorityRecord, Kind};
use crate::ca::sign::Ca;
use crate::ca::upstream::Upstream;
use crate::registry::Registry;
use crate::store::Change;

/// What a key was made into.
struct Made {
    id: String,
    /// The certificate or the public key, DER.
    public: Vec<u8>,
    not_after: UnixTime,
    /// The root above it, if it does not stand in the bundle itself.
    upstream: Option<String>,
    chain: Vec<Vec<u8>>,
    above: Above,
}

/// What the upstream authority told with it, for the bundle, and what the log is to keep of that.
#[derive(Default)]
pub(super) struct Above {
    root: Option<X509Authority>,
    /// Whether the root was in the bundle while it was made.
    is_known: bool,
    pub(super) told: Vec<Change>,
}

impl Above {
    /// Puts it into the bundle. What is there keeps its taint; a root that was taken out meanwhile stays out.
    pub(super) fn put(&self, bundle: &mut Bundle) -> Result<(), KeeperError> {
        if let Some(root) = &self.root
            && bundle.x509_standing(root.id()) == AuthorityStanding::Absent
        {
            if self.is_known {
                return Err(KeeperError::TaintedRoot(root.id().clone()));
            }
            bundle.put_x509_authority(root.clone());
        }
        Ok(())
    }
}

/// Makes authorities. It writes nothing but keys, so that it can work beside the keeper.
#[derive(Clone)]
pub(super) struct Maker {
    pub(super) terms: Terms,
    pub(super) ca: Ca,
    pub(super) keys: Arc<dyn KeyManager>,
    pub(super) registry: Registry,
    pub(super) audit: Audit,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) upstream: Option<Upstream>,
}

impl Maker {
    /// Makes a key and what it signs with, and says what the upstream authority told with it. One of a kind at a time.
    pub(super) async fn make(&self, kind: Kind) -> Result<(AuthorityRecord, Above), KeeperError> {
        // What an earlier attempt left: while the disk is full, there is one each time.
        self.forget_stray_keys(kind).await?;
        let random = Serial::random().map_err(|_| KeeperError::Name)?.to_hex();
        let algorithm = match kind {
            Kind::X509 => self.terms.x509_key,
            Kind::Jwt => self.terms.jwt_key,
        };
        let (began, tail) = (self.clock.now().as_secs(), &random[..random.len().min(16)]);
        let name = format!("{}{began}-{tail}", prefix(kind));
        let key: KeyName = name.parse().map_err(|_| KeeperError::Name)?;
        let signer = self.keys.generate(&key, algorithm).await?;
        // Its life begins now: a large key takes seconds to make.
        let now = self.clock.now();
        let made = match (kind, &self.upstream) {
            (Kind::X509, None) => self.made_x509(signer, now).await?,
            (Kind::X509, Some(upstream)) => self.made_below(upstream, signer, now).await?,
            (Kind::Jwt, _) => self.made_jwt(&*signer, random, now).await?,
        };
        let life = Authority {
            id: made.id,
            issued_at: now,
            not_after: made.not_after,
            stage: Stage::Prepared,
            upstream: made.upstream,
        };
        let record = AuthorityRecord {
            kind,
            life,
            key,
            public: made.public,
            chain: made.chain,
        };
        Ok((record, made.above))
    }

    /// A certificate for the key that it signs itself.
    async fn made_x509(&self, signer: Arc<dyn Signer>, now: UnixTime) -> Result<Made, KeeperError> {
        let root = self.make_root(signer, now).await?;
        let authority = root.authority();
        Ok(Made {
            id: authority.id().to_string(),
            public: authority.der().to_vec(),
            not_after: now.saturating_add(self.terms.lifetime.duration()),
            upstream: None,
            chain: Vec::new(),
            above: Above::default(),
        })
    }

    /// A certificate for the key that the upstream authority signs, tried before it is used.
    async fn made_below(
        &self,
        upstream: &Upstream,
        signer: Arc<dyn Signer>,
        now: UnixTime,
    ) -> Result<Made, KeeperError> {
        let Terms {
            trust_domain,
            subject,
            lifetime,
            ..
        } = self.terms.clone();
        let serial = Serial::random().map_err(|_| KeeperError::Name)?.to_string();
        let subject = subject
            .with(NameAttribute::SerialNumber, &serial)
            .map_err(IssueError::Subject)?;
        let (key, domain) = (Arc::clone(&signer), trust_domain.clone());
        let csr = move || create_authority_csr(&*key, &domain, &subject);
        let request = AuthorityRequest {
            trust_domain: trust_domain.clone(),
            csr: self.ca.pool().run(csr).await??,
            lifetime,
            now,
        };
        let SignedAuthority { chain, roots } =
            upstream.sign(&request).await.map_err(KeeperError::Upstream)?;
        // It took a while.
        let now = self.clock.now();
        let tried = move || UpheldAuthority::accept(signer, &trust_domain, &chain, &roots, now);
        let upheld = self.ca.pool().run(tried).await??;
        let (issuing, root) = (upheld.issuing(), upheld.root());
        let view = self.registry.view();
        let (origins, (bundle, _)) = (
            Origins::read(&view)?,
            own_bundle(&view, &self.terms.trust_domain)?,
        );
        // Revoked here: nothing below it would verify, and it does not come back by itself.
        if origins.lost_root(root, &bundle) {
            return Err(KeeperError::TaintedRoot(root.id().clone()));
        }
        // Tainted above, or here by an administrator.
        let here = bundle.x509_standing(root.id());
        let is_left =
            root.tainted() || here == AuthorityStanding::Tainted || upstream.is_leaving(root.id().as_str());
        if is_left && self.ca.signs_now(Kind::X509) {
            // Nothing would be gained: it would have to be left at once.
            return Err(KeeperError::TaintedRoot(root.id().clone()));
        }
        let chain = issuing.chain().iter().map(|certificate| certificate.to_vec());
        Ok(Made {
            id: issuing.authority().id().to_string(),
            public: issuing.authority().der().to_vec(),
            not_after: issuing.ends(),
            upstream: Some(root.id().to_string()),
            chain: chain.collect(),
            above: Above {
                root: Some(root.clone()),
                is_known: bundle.x509_standing(root.id()) != AuthorityStanding::Absent,
                told: origins.told(&upstream.whom(), [root], []),
            },
        })
    }

    /// The key id is random and no hash of the key: verifiers may take nothing from it. It is made known above before it is here: no token shall be
    /// signed that only a part of the trust domain can verify.
    async fn made_jwt(
        &self,
        signer: &dyn Signer,
        random: String,
        now: UnixTime,
    ) -> Result<Made, KeeperError> {
        let not_after = now.saturating_add(self.terms.lifetime.duration());
        let mut above = Above::default();
        if let Some(upstream) = &self.upstream {
            let key = JwtAuthority::new(random.parse()?, signer.public_key().clone());
            let key = key.with_expiry(Some(not_after));
            // What else is known there comes by the one who follows it.
            if upstream.publish(&key).await.map_err(KeeperError::Upstream)? {
                let origins = Origins::read(&self.registry.view())?;
                above.told = origins.told(&upstream.whom(), [], [&key]);
            }
        }
        Ok(Made {
            id: random,
            public: signer.public_key().spki_der().to_vec(),
            not_after,
            upstream: None,
            chain: Vec::new(),
            above,
        })
    }

    /// Destroys keys of ours that no record names: a crash between key and commit leaves one.
    pub(super) async fn forget_stray_keys(&self, kind: Kind) -> Result<(), KeeperError> {
        let named = records(&self.registry.view(), kind)?;
        for key in self.keys.list().await? {
            let ours = key.as_str().starts_with(prefix(kind));
            if ours && !named.iter().any(|record| record.key == key) {
                warn!(%key, "a key that no authority names is destroyed");
                let event =
                    Event::new(Actor::Daemon, Action::KeyDestroy, Outcome::Done).object(Object::key(&key));
                let destroyed = async { Ok(self.keys.delete(&key).await?) };
                recorded(&self.audit, event, destroyed).await?;
            }
        }
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
}

/// How the names of keys begin.
fn prefix(kind: Kind) -> &'static str {
    match kind {
        Kind::X509 => "x509-ca-",
        Kind::Jwt => "jwt-signer-",
    }
}
