//! A connection to the server above, by our SVID of the moment.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hyper_util::rt::TokioIo;
use muster_identity::{SpiffeId, TrustDomain};
use muster_pki::bundle::BundleSet;
use muster_pki::tls::{PeerIds, SharedBundles, SvidResolver, client_config};
use muster_plugin_api::UpstreamError;
use muster_proto::spire::server::bundle::bundle_client::BundleClient;
use muster_proto::spire::server::bundle::{
    GetBundleRequest, PublishJwtAuthorityRequest, PublishJwtAuthorityResponse,
};
use muster_proto::spire::server::svid::svid_client::SvidClient;
use muster_proto::spire::server::svid::{NewDownstreamX509caRequest, NewDownstreamX509caResponse};
use muster_proto::spire::types;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::Status;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use super::SpireConfig;
use super::workload::{Held, Identities};

/// How long TCP and TLS may take together.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// A server that is gone without a word is noticed after ten seconds.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(5));

/// Our SVID as the Workload API renews it, and a connection that shows it.
pub(super) struct Session {
    identities: Identities,
    trust_domain: TrustDomain,
    shown: SvidResolver,
    bundles: SharedBundles<BundleSet>,
    channel: Channel,
}

impl Session {
    /// Fetches our SVID and connects to the server.
    pub(super) async fn open(
        config: &SpireConfig,
        trust_domain: &TrustDomain,
        server: &SpiffeId,
    ) -> Result<Self, UpstreamError> {
        let (identities, held) = Identities::open(&config.workload_api, trust_domain).await?;
        let connecting = || format!("connecting to the server {}", config.server);
        let shown = SvidResolver::new();
        show(&shown, &held)?;
        let bundles = Arc::new(ArcSwap::from_pointee(BundleSet::new(Arc::new(held.bundle))));
        let peer = PeerIds::Exactly(server.clone());
        let tls = client_config(Arc::clone(&bundles), peer, Some(shown.clone()))
            .map_err(|error| UpstreamError::unavailable(connecting(), error))?;
        // TLS is ours, below HTTP/2: so the URI says http, and the host is only a name.
        let uri: Uri = format!("http://{}", config.server)
            .parse()
            .map_err(|error| UpstreamError::unusable(connecting(), error))?;
        let target = config.server.clone();
        let channel = Endpoint::from(uri)
            .connect_timeout(CONNECT_WITHIN)
            .http2_keep_alive_interval(KEEPALIVE.0)
            .keep_alive_timeout(KEEPALIVE.1)
            .keep_alive_while_idle(true)
            .tcp_nodelay(true)
            .connect_with_connector(service_fn(move |_: Uri| {
                let (target, tls) = (target.clone(), Arc::clone(&tls));
                async move { dial(&target, tls).await.map(TokioIo::new) }
            }))
            .await
            .map_err(|error| UpstreamError::unavailable(connecting(), error))?;
        Ok(Self {
            identities,
            trust_domain: trust_domain.clone(),
            shown,
            bundles,
            channel,
        })
    }

    /// Waits for `pause`; an SVID that comes meanwhile is shown from the next connection on.
    pub(super) async fn renewed_within(&mut self, pause: Duration) -> Result<(), UpstreamError> {
        let Ok(held) = tokio::time::timeout(pause, self.identities.next(&self.trust_domain)).await else {
            return Ok(());
        };
        let held = held?;
        show(&self.shown, &held)?;
        self.bundles
            .store(Arc::new(BundleSet::new(Arc::new(held.bundle))));
        Ok(())
    }

    pub(super) async fn new_downstream_ca(
        &self,
        request: NewDownstreamX509caRequest,
    ) -> Result<NewDownstreamX509caResponse, Status> {
        let mut client = SvidClient::new(self.channel.clone());
        Ok(client.new_downstream_x509ca(request).await?.into_inner())
    }

    pub(super) async fn publish_jwt_authority(
        &self,
        request: PublishJwtAuthorityRequest,
    ) -> Result<PublishJwtAuthorityResponse, Status> {
        let mut client = BundleClient::new(self.channel.clone());
        Ok(client.publish_jwt_authority(request).await?.into_inner())
    }

    pub(super) async fn bundle(&self) -> Result<types::Bundle, Status> {
        let mut client = BundleClient::new(self.channel.clone());
        let answer = client.get_bundle(GetBundleRequest { output_mask: None }).await?;
        Ok(answer.into_inner())
    }
}

fn show(shown: &SvidResolver, held: &Held) -> Result<(), UpstreamError> {
    shown
        .set(&held.svid, Arc::clone(&held.key))
        .map_err(|error| UpstreamError::unusable("our SVID of the server above can't be used", error))
}

async fn dial(target: &str, tls: Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
    let connect = async {
        let tcp = TcpStream::connect(target).await?;
        tcp.set_nodelay(true)?;
        // The name is not checked and not sent as one to check: a server is known by its SPIFFE ID.
        let name = ServerName::try_from("muster-server").map_err(io::Error::other)?;
        TlsConnector::from(tls).connect(name, tcp).await
    };
    tokio::time::timeout(CONNECT_WITHIN, connect)
        .await
        .map_err(|_| io::ErrorKind::TimedOut)?
}
