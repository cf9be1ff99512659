//! Making an authority: its key, and the certificate or the name that it signs under. What of it becomes public is the next step's matter.

use std::sync::Arc;

use muster_identity::UnixTime;
use muster_pki::Signer;
use muster_pki::x509::{IssuingAuthority, RootProfile, Serial, issue_root};
use muster_plugin_api::KeyName;

use super::{Keeper, KeeperError, Terms};
use crate::ca::life::{Authority, Stage};
use crate::ca::record::{AuthorityRecord, Kind};

pub(super) const X509_KEYS: &str = "x509-ca-";
pub(super) const JWT_KEYS: &str = "jwt-signer-";

/// What a key was made into.
struct Made {
    id: String,
    /// The certificate or the public key, DER.
    public: Vec<u8>,
    not_after: UnixTime,
    /// The root above it, if it does not stand in the bundle itself.
    upstream: Option<String>,
}

impl Keeper {
    /// Makes a key and what it signs with.
    pub(super) async fn make(&self, kind: Kind) -> Result<AuthorityRecord, KeeperError> {
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
        let made = match kind {
            Kind::X509 => self.made_x509(signer, now).await?,
            Kind::Jwt => self.made_jwt(&*signer, random, now),
        };
        let life = Authority {
            id: made.id,
            issued_at: now,
            not_after: made.not_after,
            stage: Stage::Prepared,
            upstream: made.upstream,
        };
        Ok(AuthorityRecord {
            kind,
            life,
            key,
            public: made.public,
        })
    }

    /// A certificate for the key: today one that it signs itself.
    async fn made_x509(&self, signer: Arc<dyn Signer>, now: UnixTime) -> Result<Made, KeeperError> {
        let root = self.make_root(signer, now).await?;
        let authority = root.authority();
        Ok(Made {
            id: authority.id().to_string(),
            public: authority.der().to_vec(),
            not_after: now.saturating_add(self.terms.lifetime.duration()),
            upstream: None,
        })
    }

    /// The key id is random and no hash of the key: verifiers may take nothing from it.
    fn made_jwt(&self, signer: &dyn Signer, random: String, now: UnixTime) -> Made {
        Made {
            id: random,
            public: signer.public_key().spki_der().to_vec(),
            not_after: now.saturating_add(self.terms.lifetime.duration()),
            upstream: None,
        }
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
