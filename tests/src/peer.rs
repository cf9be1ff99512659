use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use arc_swap::ArcSwap;
use hyper_util::rt::TokioIo;
use muster_pki::{
    KeyAlgorithm, LocalKey, Signer,
    bundle::{Bundle, BundleSet},
    tls::{PeerIds, SvidResolver, client_config},
    x509::{CertificateDer, X509Svid, create_csr},
};
use muster_proto::{
    convert,
    spire::{
        server::{
            agent::{
                AgentX509svidParams, AttestAgentRequest, CreateJoinTokenRequest, agent_client::AgentClient,
                attest_agent_request, attest_agent_response,
            },
            bundle::{GetBundleRequest, bundle_client::BundleClient},
            svid::{MintX509svidRequest, svid_client::SvidClient},
        },
        types,
    },
    workload::{X509svidRequest, spiffe_workload_api_client::SpiffeWorkloadApiClient},
};
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

use crate::{Cluster, unix_channel};

/// Somebody with an X.509-SVID and its key, as a node, an administrator or a stranger has them.
#[derive(Clone)]
pub struct Identity {
    /// The SVID.
    pub svid: X509Svid,
    /// Its key.
    pub key: Arc<LocalKey>,
}

impl Identity {
    /// A new key.
    pub fn key() -> Arc<LocalKey> {
        Arc::new(LocalKey::generate(KeyAlgorithm::EcP256).expect("randomness"))
    }

    /// An identity that the server signs by name, for `seconds`, on its admin socket.
    pub async fn minted(cluster: &Cluster, id: &str, seconds: i32) -> Self {
        let key = Self::key();
        let csr = create_csr(&*key, Some(&id.parse().expect("a SPIFFE ID"))).expect("a request");
        let request = MintX509svidRequest { csr, ttl: seconds };
        let answer = SvidClient::new(cluster.channel().await)
            .mint_x509svid(request)
            .await
            .unwrap()
            .into_inner();
        Self {
            svid: parse(answer.svid.unwrap()),
            key,
        }
    }

    /// The first identity that a Workload API has for this process.
    pub async fn fetched(workload_api: PathBuf) -> Self {
        let mut request = tonic::Request::new(X509svidRequest {});
        let header = request.metadata_mut();
        header.insert("workload.spiffe.io", "true".parse().expect("a word"));
        let mut stream = SpiffeWorkloadApiClient::new(unix_channel(workload_api).await)
            .fetch_x509svid(request)
            .await
            .unwrap()
            .into_inner();
        let svid = stream.message().await.unwrap().unwrap().svids.remove(0);
        Self {
            svid: X509Svid::from_der_concat(&svid.x509_svid).expect("an X.509-SVID"),
            key: Arc::new(LocalKey::from_pkcs8(&svid.x509_svid_key).expect("its key")),
        }
    }

    /// A node that joined by a token of its own.
    pub async fn joined(cluster: &Cluster) -> Self {
        let token = cluster.token().await;
        let key = Self::key();
        let channel = tcp_channel(cluster, None).await;
        let svid = join(channel, &token, &key).await.unwrap();
        Self { svid, key }
    }
}

impl Cluster {
    /// A new join token.
    pub async fn token(&self) -> String {
        let request = CreateJoinTokenRequest {
            ttl: 600,
            ..Default::default()
        };
        AgentClient::new(self.channel().await)
            .create_join_token(request)
            .await
            .unwrap()
            .into_inner()
            .value
    }
}

/// Redeems a join token for `key`, as a node does that has nothing else yet.
pub async fn join(channel: Channel, token: &str, key: &dyn Signer) -> Result<X509Svid, Status> {
    let params = attest_agent_request::Params {
        data: Some(types::AttestationData {
            r#type: "join_token".into(),
            payload: token.into(),
        }),
        params: Some(AgentX509svidParams {
            csr: create_csr(key, None).expect("a request"),
        }),
    };
    let request = AttestAgentRequest {
        step: Some(attest_agent_request::Step::Params(params)),
    };
    let mut answers = AgentClient::new(channel)
        .attest_agent(tokio_stream::iter([request]))
        .await?
        .into_inner();
    match answers.message().await?.and_then(|answer| answer.step) {
        Some(attest_agent_response::Step::Result(result)) => Ok(parse(result.svid.unwrap())),
        other => panic!("neither an SVID nor a refusal: {other:?}"),
    }
}

/// A connection to the server's TCP door, which must prove that it is the server, by somebody or by nobody.
pub async fn tcp_channel(cluster: &Cluster, identity: Option<&Identity>) -> Channel {
    let request = GetBundleRequest { output_mask: None };
    let bundle = BundleClient::new(cluster.channel().await)
        .get_bundle(request)
        .await
        .unwrap()
        .into_inner();
    let bundle = convert::bundle(&bundle).expect("the server's bundle");
    tcp_channel_trusting(cluster.tcp_address(), bundle, identity)
        .await
        .expect("a connection")
}

/// The same with a bundle of the caller's choice.
pub async fn tcp_channel_trusting(
    address: SocketAddr,
    bundle: Bundle,
    identity: Option<&Identity>,
) -> Result<Channel, tonic::transport::Error> {
    let server = format!("spiffe://{}/spire/server", bundle.trust_domain());
    let server = PeerIds::Exactly(server.parse().expect("a SPIFFE ID"));
    let svid = identity.map(|identity| {
        let svid = SvidResolver::new();
        svid.set(&identity.svid, identity.key.clone()).expect("its key");
        svid
    });
    let bundles = Arc::new(ArcSwap::from_pointee(BundleSet::new(Arc::new(bundle))));
    let config = client_config(bundles, server, svid).expect("a configuration");
    Endpoint::from_static("http://localhost")
        .connect_with_connector(tower::service_fn(move |_| {
            let connector = tokio_rustls::TlsConnector::from(config.clone());
            async move {
                let tcp = tokio::net::TcpStream::connect(address).await?;
                connector
                    .connect(address.ip().into(), tcp)
                    .await
                    .map(TokioIo::new)
            }
        }))
        .await
}

fn parse(wire: types::X509svid) -> X509Svid {
    let chain = wire
        .cert_chain
        .into_iter()
        .map(|der| CertificateDer::from(der.to_vec()))
        .collect();
    X509Svid::parse(chain).expect("an X.509-SVID")
}
