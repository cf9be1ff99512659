//! The node's own state, on disk and in use.

use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use muster_identity::UnixTime;
use muster_pki::bundle::{AuthorityStanding, Bundle, BundleSet};
use muster_pki::tls::{PeerIds, SharedBundles, SvidResolver, client_config};
use muster_pki::x509::{AuthorityId, X509Svid};
use muster_pki::{KeyAlgorithm, LocalKey};
use tracing::{info, warn};

use super::AttestError;
use crate::keep::{NodeIdentity, NodeState, NodeStore, NodeStoreError};
use crate::sync::{Dial, ServerCertificate};

/// The node's key, certificate and trust bundle: each change is on disk before it is in use.
#[derive(Debug)]
pub struct Membership {
    store: NodeStore,
    state: NodeState,
    shown: SvidResolver,
    bundles: SharedBundles<BundleSet>,
    svid: Arc<ArcSwapOption<X509Svid>>,
    server: ServerCertificate,
}

impl Membership {
    /// Takes up the state that was read from `store`.
    pub fn new(store: NodeStore, state: NodeState) -> Result<Self, NodeStoreError> {
        let bundles = Arc::new(ArcSwap::from_pointee(BundleSet::new(Arc::clone(&state.bundle))));
        let membership = Self {
            store,
            state,
            shown: SvidResolver::new(),
            bundles,
            svid: Arc::default(),
            server: ServerCertificate::default(),
        };
        membership.show()?;
        Ok(membership)
    }

    /// The state as it is on disk.
    pub fn state(&self) -> &NodeState {
        &self.state
    }

    /// The node's certificate, as it will be whenever it is looked at.
    pub fn svid(&self) -> Arc<ArcSwapOption<X509Svid>> {
        Arc::clone(&self.svid)
    }

    /// How the bundle stands to the authority above the node's certificate.
    pub fn own_authority(&self) -> AuthorityStanding {
        self.own_authority_in(&self.state.bundle)
    }

    /// How `bundle` stands to it.
    pub fn own_authority_in(&self, bundle: &Bundle) -> AuthorityStanding {
        let own = self.state.identity.as_ref();
        standing(bundle, own.and_then(|own| own.svid.authority_id()))
    }

    /// How the bundle stands to the authority above the certificate that the server showed last.
    pub fn servers_authority(&self) -> AuthorityStanding {
        standing(&self.state.bundle, self.server.authority_id())
    }

    /// Another address of the same server.
    pub fn use_server(&mut self, server: String) {
        self.state.server = server;
    }

    /// How to reach the server, showing the node's certificate.
    pub fn dial(&self) -> Result<Dial, rustls::Error> {
        self.dial_showing(Some(self.shown.clone()))
    }

    /// How to reach the server as nobody: for attestation.
    pub fn dial_as_nobody(&self) -> Result<Dial, rustls::Error> {
        self.dial_showing(None)
    }

    /// A key to ask a certificate for. One that was asked for already and got no answer comes again: the server may have bound it to the node.
    pub async fn key_to_ask_with(&mut self) -> Result<Arc<LocalKey>, AttestError> {
        let wrong = |error: Box<dyn std::error::Error + Send + Sync>| AttestError::Request(error);
        if let Some(asked) = &self.state.asked_with {
            return LocalKey::from_pkcs8(asked.expose_secret())
                .map(Arc::new)
                .map_err(|error| wrong(error.into()));
        }
        let key = LocalKey::generate(KeyAlgorithm::EcP256).map_err(|error| wrong(error.into()))?;
        let pkcs8 = key.to_pkcs8().map_err(|error| wrong(error.into()))?;
        let state = NodeState {
            asked_with: Some(pkcs8),
            ..self.state.clone()
        };
        self.save(state).await.map_err(|error| wrong(error.into()))?;
        Ok(Arc::new(key))
    }

    /// The server signed: from now on this is the node's certificate.
    pub async fn became(
        &mut self,
        svid: X509Svid,
        key: &LocalKey,
        now: UnixTime,
    ) -> Result<(), NodeStoreError> {
        let key = key
            .to_pkcs8()
            .map_err(|_| NodeStoreError::Content("a key that can't be written"))?;
        info!(spiffe_id = %svid.id(), expires = %svid.not_after(), "the node has a certificate");
        let identity = Some(NodeIdentity {
            svid,
            key,
            received: now,
        });
        self.save(NodeState {
            identity,
            asked_with: None,
            ..self.state.clone()
        })
        .await?;
        self.show()
    }

    /// The server's authorities changed. A bundle without any is kept out: nothing could be verified by it, not even its successor.
    pub async fn learn(&mut self, bundle: Arc<Bundle>) -> Result<(), NodeStoreError> {
        if *bundle == *self.state.bundle {
            return Ok(());
        }
        if bundle.x509_authorities().is_empty() {
            warn!(trust_domain = %bundle.trust_domain(), "a bundle without X.509 authorities was kept out");
            return Ok(());
        }
        let state = NodeState {
            bundle: Arc::clone(&bundle),
            ..self.state.clone()
        };
        match self.save(state.clone()).await {
            // It counts in memory, and the next thing that is written takes it along.
            Err(error) if error.may_retry() => {
                warn!(
                    error = &error as &dyn std::error::Error,
                    "the new trust bundle is not on disk yet"
                );
                self.state = state;
            }
            saved => saved?,
        }
        self.bundles.store(Arc::new(BundleSet::new(bundle)));
        Ok(())
    }

    async fn save(&mut self, state: NodeState) -> Result<(), NodeStoreError> {
        self.store.save(&state).await?;
        self.state = state;
        Ok(())
    }

    fn show(&self) -> Result<(), NodeStoreError> {
        if let Some(identity) = &self.state.identity {
            let shown = self.shown.set(&identity.svid, identity.signer()?);
            shown.map_err(|_| NodeStoreError::Content("a key that is not its certificate's"))?;
            self.svid.store(Some(Arc::new(identity.svid.clone())));
        }
        Ok(())
    }

    fn dial_showing(&self, shown: Option<SvidResolver>) -> Result<Dial, rustls::Error> {
        let server = PeerIds::Exactly(self.state.server_id());
        let tls = client_config(Arc::clone(&self.bundles), server, shown)?;
        Ok(Dial {
            server: self.state.server.clone(),
            tls,
            shown: self.server.clone(),
        })
    }
}

/// What can't be named is left to its own end.
fn standing(bundle: &Bundle, authority: Option<AuthorityId>) -> AuthorityStanding {
    authority.map_or(AuthorityStanding::Trusted, |id| bundle.x509_standing(&id))
}
