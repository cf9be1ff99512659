//! A SPIRE or Muster server above us.
//!
//! ```text
//! Workload API of an agent of the server above ─own SVID, its bundle→ TLS ─→ server above: NewDownstreamX509CA, PublishJWTAuthority, GetBundle
//! ```
//!
//! Several servers may stand behind one name, and each tells what it has read last of their store: an answer that is older than one before is not taken.
//!
//! We are a workload there: an entry with `downstream` gives us our SVID. The connection is made for each use; where the bundle is followed it stays, and the
//! SVID it shows is renewed as the Workload API renews it.

mod newest;
mod session;
mod workload;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use muster_identity::{SpiffeId, TrustDomain};
use muster_pki::bundle::Bundle;
use muster_pki::jwt::JwtAuthority;
use muster_pki::x509::{CertificateDer, MAX_CHAIN};
use muster_plugin_api::{
    AuthorityRequest, Extent, SignedAuthority, UpstreamAuthority, UpstreamBundle, UpstreamError,
};
use muster_proto::convert;
use muster_proto::spire::server::bundle::PublishJwtAuthorityRequest;
use muster_proto::spire::server::svid::NewDownstreamX509caRequest;
use tonic::{Code, Status};

use self::newest::Newest;
use self::session::Session;

/// How often the bundle above is asked for. It is small, and a root that is tainted there has to be left soon.
const LOOK: Duration = Duration::from_secs(2);
/// How long one answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// Where the server above is, and where we get the SVID that it knows us by.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SpireConfig {
    /// `host:port` of the server above.
    pub server: String,
    /// The socket of the Workload API of one of its agents.
    pub workload_api: PathBuf,
}

/// A server above us.
#[derive(Clone, Debug)]
pub struct Spire {
    config: SpireConfig,
    trust_domain: TrustDomain,
    /// Who it must prove to be.
    server: SpiffeId,
    newest: Arc<Newest>,
}

impl Spire {
    /// The server that `config` names, of the same trust domain as ours.
    pub fn new(config: SpireConfig, trust_domain: TrustDomain) -> Self {
        let server = format!("{}/spire/server", trust_domain.id())
            .parse()
            .expect("a trust domain and a fixed path make an ID");
        Self {
            config,
            trust_domain,
            server,
            newest: Arc::default(),
        }
    }

    async fn session(&self) -> Result<Session, UpstreamError> {
        Session::open(&self.config, &self.trust_domain, &self.server).await
    }

    async fn known(&self, session: &Session) -> Result<UpstreamBundle, UpstreamError> {
        let wire = self.answer("asking for the bundle", session.bundle()).await?;
        let bundle: Bundle = convert::bundle(&wire).map_err(|error| self.unusable("its bundle", error))?;
        if *bundle.trust_domain() != self.trust_domain {
            let why = format!("it is of the trust domain {}", bundle.trust_domain());
            return Err(self.unusable("its bundle", why));
        }
        let known = UpstreamBundle {
            x509_authorities: bundle.x509_authorities().to_vec(),
            jwt_authorities: bundle.jwt_authorities().to_vec(),
            // The bundle of the trust domain: what is taken out of it there is revoked.
            extent: Extent::All,
        };
        Ok(self.newest.of(bundle.sequence(), known))
    }

    async fn answer<T>(
        &self,
        what: &str,
        call: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, UpstreamError> {
        let what = format!("{what}, at the server {}", self.config.server);
        match tokio::time::timeout(ANSWER_WITHIN, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(status)) if is_refusal(&status) => Err(UpstreamError::Refused {
                what,
                reason: status.message().to_owned(),
            }),
            Ok(Err(status)) => Err(UpstreamError::unavailable(what, status)),
            Err(elapsed) => Err(UpstreamError::unavailable(what, elapsed)),
        }
    }

    fn unusable(
        &self,
        what: &str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> UpstreamError {
        UpstreamError::unusable(
            format!("{what}, from the server {}, can't be used", self.config.server),
            source,
        )
    }
}

/// Whether the server decided, so that asking again in the same way changes nothing.
fn is_refusal(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::InvalidArgument
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::FailedPrecondition
            | Code::NotFound
            | Code::Unimplemented
    )
}

#[async_trait]
impl UpstreamAuthority for Spire {
    fn name(&self) -> &'static str {
        "spire"
    }

    fn whom(&self) -> String {
        format!("spire {}", self.config.server)
    }

    fn takes_jwt_keys(&self) -> bool {
        true
    }

    async fn sign_authority(&self, request: &AuthorityRequest) -> Result<SignedAuthority, UpstreamError> {
        let session = self.session().await?;
        let asked = NewDownstreamX509caRequest {
            csr: request.csr.clone(),
            preferred_ttl: i32::try_from(request.lifetime.as_secs()).unwrap_or(i32::MAX),
        };
        let answer = self
            .answer("asking for an authority", session.new_downstream_ca(asked))
            .await?;
        if answer.ca_cert_chain.len() > MAX_CHAIN {
            return Err(self.unusable("the authority", "its chain is too long"));
        }
        let chain = answer.ca_cert_chain.into_iter().map(CertificateDer::from);
        let chain = chain.collect();
        // The roots that come with the authority carry no taints: the bundle does.
        let roots = self.known(&session).await?.x509_authorities;
        Ok(SignedAuthority { chain, roots })
    }

    async fn publish_jwt_key(&self, key: &JwtAuthority) -> Result<Vec<JwtAuthority>, UpstreamError> {
        let session = self.session().await?;
        let asked = PublishJwtAuthorityRequest {
            jwt_authority: Some(key.into()),
        };
        let answer = self
            .answer(
                "publishing a token-signing key",
                session.publish_jwt_authority(asked),
            )
            .await?;
        let keys = answer.jwt_authorities.iter().map(convert::jwt_authority);
        keys.collect::<Result<_, _>>()
            .map_err(|error| self.unusable("its token-signing keys", error))
    }

    async fn changed(&self, seen: &UpstreamBundle) -> Result<UpstreamBundle, UpstreamError> {
        let mut session = self.session().await?;
        loop {
            let known = match self.known(&session).await {
                // Servers end connections after some minutes, and when the certificate ends that they were made with. The next call makes another.
                Err(UpstreamError::Unavailable { .. }) => self.known(&session).await?,
                answer => answer?,
            };
            if known != *seen {
                return Ok(known);
            }
            session.renewed_within(LOOK).await?;
        }
    }
}
