//! The first attestation of a node.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use muster_identity::{SpiffeId, TrustDomain, UnixTime};
use muster_pki::bundle::{Bundle, BundleSet};
use muster_pki::tls::{PeerIds, client_config};
use muster_plugin_api::NodeAttestor;
use muster_proto::convert;
use muster_proto::spire::server::bundle::GetBundleRequest;
use muster_proto::spire::server::bundle::bundle_client::BundleClient;
use muster_runtime::{Backoff, Clock};
use tonic::transport::Channel;
use tracing::warn;

use super::pin::{Pin, PinError, unverified};
use super::{AttestError, Membership, attest};
use crate::keep::{Folder, NodeState, NodeStore, NodeStoreError, OpenFolderError, server_id};
use crate::sync::{ConnectError, Dial, ServerCertificate};

/// How long the server may take to say what its authorities are.
const BUNDLE_WITHIN: Duration = Duration::from_secs(15);

/// What a person says to make a machine a node.
#[derive(Clone, Debug)]
pub struct JoinRequest {
    /// Where the node keeps its state.
    pub data_dir: PathBuf,
    /// The server, `host:port`.
    pub server: String,
    /// What proves this machine: a token that the server made for it, or a proof that lasts.
    pub attestor: Arc<dyn NodeAttestor>,
    /// How the server is recognised.
    pub pin: Pin,
    /// The trust domain, when the person knows it.
    pub trust_domain: Option<TrustDomain>,
    /// What becomes of a node identity that is there already.
    pub old: OldMembership,
}

/// What becomes of a node identity that is there already.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OldMembership {
    /// A node that has a valid certificate stays what it is, and joining is refused.
    Keep,
    /// It is given up for the new one, with all that was held for workloads.
    Replace,
}

/// A machine that has become a node.
#[derive(Clone, Debug)]
pub struct Joined {
    /// Its identity.
    pub id: SpiffeId,
    /// When its first certificate ends; the agent renews it long before.
    pub expires: UnixTime,
}

/// Why a machine did not become a node.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The folder can't be used.
    #[error(transparent)]
    Folder(#[from] OpenFolderError),
    /// It is a node.
    #[error("this machine is the node {id} already, until {expires}; --replace gives that up")]
    Already {
        /// Which.
        id: SpiffeId,
        /// Until when.
        expires: UnixTime,
    },
    /// The server can't be reached, or could not prove that it is the one.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The server did not say what its authorities are.
    #[error("asking the server for its trust bundle: {0}")]
    Bundle(String),
    /// The pin does not fit the server.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// The server is another trust domain's.
    #[error("the server is of trust domain {found}, not of {expected}")]
    OtherTrustDomain {
        /// What it is of.
        found: TrustDomain,
        /// What was asked for.
        expected: TrustDomain,
    },
    /// The server refused, or its answer can't be used.
    #[error("attesting this node")]
    Attest(#[from] AttestError),
    /// The state is not on disk.
    #[error(transparent)]
    Store(#[from] NodeStoreError),
    /// A fault of ours.
    #[error("preparing TLS")]
    Tls(#[from] rustls::Error),
}

/// Makes this machine a node: checks the server by the pin, proves the node, and keeps key and certificate on disk.
///
/// When it is cut off after the token was used, the same call with the same token brings the certificate: the key is on disk before the token leaves, and the server
/// has bound the token to it.
pub async fn join(request: &JoinRequest, clock: &dyn Clock) -> Result<Joined, JoinError> {
    let folder = Folder::open(&request.data_dir)?;
    let (store, before) = folder.node()?;
    if let Some(identity) = before.as_ref().and_then(|state| state.identity.as_ref())
        && identity.expires() > clock.now()
        && request.old == OldMembership::Keep
    {
        let (id, expires) = (identity.svid.id().clone(), identity.expires());
        return Err(JoinError::Already { id, expires });
    }
    let membership = become_node(&folder, store, before, request, clock, Duration::ZERO).await?;
    let identity = membership
        .state()
        .identity
        .as_ref()
        .ok_or(AttestError::Answer("no certificate"))?;
    Ok(Joined {
        id: identity.svid.id().clone(),
        expires: identity.expires(),
    })
}

/// As [`join`], in a folder that is open already. What may heal is tried again for `patience`.
pub(crate) async fn become_node(
    folder: &Folder,
    store: NodeStore,
    before: Option<NodeState>,
    request: &JoinRequest,
    clock: &dyn Clock,
    patience: Duration,
) -> Result<Membership, JoinError> {
    let begun = Instant::now();
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    let mut patient = async |error: JoinError| {
        if !error.may_retry() || begun.elapsed() >= patience {
            return Err(error);
        }
        warn!(
            error = &error as &dyn std::error::Error,
            "not attested yet; trying again"
        );
        tokio::time::sleep(backoff.next_wait()).await;
        Ok(())
    };
    let (mut channel, bundle) = loop {
        match reach(request).await {
            Ok(reached) => break reached,
            Err(error) => patient(error).await?,
        }
    };
    let mut state = NodeState::unjoined(request.server.clone(), Arc::new(bundle));
    // Only a request that was cut off is repeated with its key; a new membership gets a new one.
    let cut_off =
        before.filter(|before| before.identity.is_none() && before.trust_domain == state.trust_domain);
    state.asked_with = cut_off.and_then(|before| before.asked_with);
    folder.svids(&state.trust_domain).remove().ok();

    let mut membership = Membership::new(store, state)?;
    let key = membership.key_to_ask_with().await?;
    let svid = loop {
        match attest(channel.clone(), &*request.attestor, &key).await {
            Ok(svid) => break svid,
            Err(error) => patient(error.into()).await?,
        }
        channel = match reach(request).await {
            Ok((channel, _)) => channel,
            Err(error) => {
                patient(error).await?;
                continue;
            }
        };
    };
    membership.became(svid, &key, clock.now()).await?;
    Ok(membership)
}

impl JoinError {
    /// Whether trying again may help without anybody doing anything.
    pub fn may_retry(&self) -> bool {
        match self {
            Self::Connect(_) | Self::Bundle(_) => true,
            Self::Attest(error) => error.may_retry(),
            _ => false,
        }
    }
}

/// A connection to the server that the pin vouches for, and its whole bundle.
async fn reach(request: &JoinRequest) -> Result<(Channel, Bundle), JoinError> {
    let nobody = Dial {
        server: request.server.clone(),
        tls: unverified()?,
        shown: ServerCertificate::default(),
    };
    // Of this answer nothing is believed but the name, until a server with this name has shown a certificate under a pinned authority.
    let claimed = bundle_of(nobody.connect().await?).await?;
    if let Some(expected) = request
        .trust_domain
        .as_ref()
        .filter(|name| *name != claimed.trust_domain())
    {
        let found = claimed.trust_domain().clone();
        return Err(JoinError::OtherTrustDomain {
            found,
            expected: expected.clone(),
        });
    }
    let pinned = request.pin.authorities(&claimed)?;
    let id = PeerIds::Exactly(server_id(pinned.trust_domain()));
    let bundles = Arc::new(ArcSwap::from_pointee(BundleSet::new(Arc::new(pinned))));
    let known = Dial {
        server: request.server.clone(),
        tls: client_config(bundles, id, None)?,
        shown: ServerCertificate::default(),
    };
    let channel = known.connect().await?;
    let bundle = bundle_of(channel.clone()).await?;
    if bundle.trust_domain() != claimed.trust_domain() || bundle.x509_authorities().is_empty() {
        return Err(JoinError::Bundle(
            "the answer is of another trust domain, or empty".into(),
        ));
    }
    Ok((channel, bundle))
}

async fn bundle_of(channel: Channel) -> Result<Bundle, JoinError> {
    let mut client = BundleClient::new(channel);
    let asked = tokio::time::timeout(BUNDLE_WITHIN, client.get_bundle(GetBundleRequest::default())).await;
    let answer = asked.map_err(|_| JoinError::Bundle("no answer".into()))?;
    let answer = answer.map_err(|status| JoinError::Bundle(status.message().to_owned()))?;
    convert::bundle(&answer.into_inner()).map_err(|error| JoinError::Bundle(error.to_string()))
}
