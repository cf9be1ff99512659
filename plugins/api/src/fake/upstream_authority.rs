//! An upstream authority in memory.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use muster_identity::{Lifetime, TrustDomain, UnixTime};
use muster_pki::jwt::JwtAuthority;
use muster_pki::x509::{
    AuthorityId, Csr, IntermediateProfile, IntermediateSubject, IssuingAuthority, RootProfile, ca_subject,
    issue_intermediate, issue_root,
};
use muster_pki::{KeyAlgorithm, LocalKey};
use tokio::sync::watch;

use crate::{AuthorityRequest, Extent, SignedAuthority, UpstreamAuthority, UpstreamBundle, UpstreamError};

/// How long a fake's root lives.
const LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Signs with a root in memory. It can be told to be down, to sign nothing for now, to go over to another root, and to taint and revoke the ones before.
pub struct FakeUpstreamAuthority {
    trust_domain: TrustDomain,
    state: watch::Sender<State>,
}

#[derive(Clone)]
struct State {
    down: bool,
    hangs: bool,
    waiting: usize,
    knows_tokens: bool,
    root: IssuingAuthority,
    known: UpstreamBundle,
}

impl FakeUpstreamAuthority {
    /// One root, made at `now`; token-signing keys are taken.
    ///
    /// # Panics
    /// When the machine has no randomness.
    pub fn new(trust_domain: TrustDomain, now: UnixTime) -> Self {
        let root = root(&trust_domain, now);
        let known = UpstreamBundle {
            x509_authorities: vec![root.authority().clone()],
            jwt_authorities: Vec::new(),
            extent: Extent::All,
        };
        let (down, hangs, knows_tokens) = (false, false, true);
        let state = watch::Sender::new(State {
            down,
            hangs,
            waiting: 0,
            knows_tokens,
            root,
            known,
        });
        Self { trust_domain, state }
    }

    /// From now on every request fails, or works again.
    pub fn set_down(&self, down: bool) {
        self.state.send_modify(|state| state.down = down);
    }

    /// From now on who asks for a signature waits, until this is taken back.
    pub fn set_hanging(&self, hangs: bool) {
        self.state.send_modify(|state| state.hangs = hangs);
    }

    /// Returns once somebody has waited for a signature.
    pub async fn somebody_waits(&self) {
        let mut state = self.state.subscribe();
        // The sender lives as long as self.
        state.wait_for(|state| state.waiting > 0).await.map(drop).ok();
    }

    /// From now on token-signing keys are not taken, as by those who know certificates alone.
    pub fn forget_tokens(&self) {
        self.state.send_modify(|state| state.knows_tokens = false);
    }

    /// Signs with a new root from now on. The one before is known still; its id is returned.
    pub fn change_root(&self, now: UnixTime) -> AuthorityId {
        let root = root(&self.trust_domain, now);
        let mut before = None;
        self.state.send_modify(|state| {
            state.known.x509_authorities.push(root.authority().clone());
            before = Some(std::mem::replace(&mut state.root, root.clone()));
        });
        before.expect("there was one").authority().id().clone()
    }

    /// Taints a root.
    pub fn taint(&self, id: &AuthorityId) {
        self.state.send_modify(|state| {
            for root in &mut state.known.x509_authorities {
                if root.id() == id {
                    *root = root.clone().with_taint(true);
                }
            }
        });
    }

    /// Trusts a root no more.
    pub fn revoke(&self, id: &AuthorityId) {
        self.state
            .send_modify(|state| state.known.x509_authorities.retain(|root| root.id() != id));
    }

    /// What it knows.
    pub fn known(&self) -> UpstreamBundle {
        self.state.borrow().known.clone()
    }

    fn state(&self) -> Result<State, UpstreamError> {
        let state = self.state.borrow().clone();
        if state.down {
            return Err(UpstreamError::unavailable(
                "asking the fake",
                "it was told to be down",
            ));
        }
        Ok(state)
    }
}

#[async_trait]
impl UpstreamAuthority for FakeUpstreamAuthority {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn takes_jwt_keys(&self) -> bool {
        self.state.borrow().knows_tokens
    }

    async fn sign_authority(&self, request: &AuthorityRequest) -> Result<SignedAuthority, UpstreamError> {
        if self.state.borrow().hangs {
            self.state.send_modify(|state| state.waiting += 1);
        }
        let mut goes_on = self.state.subscribe();
        goes_on.wait_for(|state| !state.hangs).await.map(drop).ok();
        let state = self.state()?;
        let csr = Csr::parse(&request.csr)
            .map_err(|source| UpstreamError::unusable("reading the request", source))?;
        let subject = csr
            .raw_subject()
            .map_err(|source| UpstreamError::unusable("reading the request", source))?;
        let profile = IntermediateProfile {
            trust_domain: request.trust_domain.clone(),
            public_key: csr.public_key().clone(),
            subject: IntermediateSubject::Named(subject),
            now: request.now,
            lifetime: request.lifetime,
        };
        let chain = issue_intermediate(&state.root, &profile)
            .map_err(|source| UpstreamError::unusable("signing", source))?;
        Ok(SignedAuthority {
            chain,
            roots: state.known.x509_authorities,
        })
    }

    async fn publish_jwt_key(&self, key: &JwtAuthority) -> Result<Vec<JwtAuthority>, UpstreamError> {
        if !self.state()?.knows_tokens {
            return Err(UpstreamError::Unsupported);
        }
        self.state.send_modify(|state| {
            let keys = &mut state.known.jwt_authorities;
            if !keys.iter().any(|held| held.key_id() == key.key_id()) {
                keys.push(key.clone());
            }
        });
        Ok(self.known().jwt_authorities)
    }

    async fn changed(&self, seen: &UpstreamBundle) -> Result<UpstreamBundle, UpstreamError> {
        let mut state = self.state.subscribe();
        // The sender lives as long as self.
        let differs = state.wait_for(|state| state.down || state.known != *seen).await;
        differs.map(drop).ok();
        Ok(self.state()?.known)
    }
}

fn root(trust_domain: &TrustDomain, now: UnixTime) -> IssuingAuthority {
    let profile = RootProfile {
        trust_domain: trust_domain.clone(),
        subject: ca_subject(),
        now,
        lifetime: Lifetime::from_secs(u32::try_from(LIFE.as_secs()).unwrap_or(u32::MAX))
            .expect("it is not zero"),
    };
    let key = LocalKey::generate(KeyAlgorithm::EcP256).expect("the machine has randomness");
    issue_root(Arc::new(key), &profile).expect("a root of a key in memory")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance;

    #[tokio::test]
    async fn the_fake_keeps_the_promises_of_an_upstream_authority() {
        let (trust_domain, now): (TrustDomain, _) =
            ("example.org".parse().unwrap(), UnixTime::from_secs(1_800_000_000));
        let fake = FakeUpstreamAuthority::new(trust_domain.clone(), now);
        conformance::upstream_authority(&fake, &trust_domain, now).await;
        fake.forget_tokens();
        conformance::upstream_authority(&fake, &trust_domain, now).await;
    }

    #[tokio::test]
    async fn a_root_that_was_tainted_or_revoked_is_told() {
        let now = UnixTime::from_secs(1_800_000_000);
        let fake = FakeUpstreamAuthority::new("example.org".parse().unwrap(), now);
        let first = fake.changed(&UpstreamBundle::default()).await.unwrap();
        let before = fake.change_root(now);
        fake.taint(&before);
        let second = fake.changed(&first).await.unwrap();
        let tainted: Vec<_> = second
            .x509_authorities
            .iter()
            .map(muster_pki::x509::X509Authority::tainted)
            .collect();
        assert_eq!(tainted, [true, false]);
        fake.revoke(&before);
        let third = fake.changed(&second).await.unwrap();
        assert_eq!(third.x509_authorities.len(), 1);
        fake.set_down(true);
        fake.changed(&third).await.unwrap_err();
    }
}
