//! From a URL to a connection with the endpoint that it means.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use muster_pki::tls::{ClientAuth, PeerIds, PeerVerifier, provider};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, SignatureScheme};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Authentication, FetchError, Fetcher};
use crate::federation::address::ForbiddenAddress;
use crate::federation::url::{EndpointUrl, Host};
use crate::web::{HTTP, web_provider};

/// How long one address may take to answer.
const CONNECT: Duration = Duration::from_secs(5);
/// How many addresses of a name are tried.
const ADDRESSES: usize = 4;

impl Fetcher {
    /// A connection with the endpoint that `url` means, authenticated.
    pub(crate) async fn connect(
        &self,
        url: &EndpointUrl,
        authentication: &Authentication,
    ) -> Result<TlsStream<TcpStream>, FetchError> {
        let asked = Arc::new(Asked::default());
        let config = self.config(authentication, Arc::clone(&asked)).await?;
        let tcp = self.dial(url).await?;
        let name = match url.host() {
            Host::Address(address) => ServerName::from(*address),
            Host::Name(name) => ServerName::try_from(name.clone()).map_err(|_| FetchError::Resolve {
                host: name.clone(),
                source: io::Error::new(io::ErrorKind::InvalidInput, "it is no name of a host"),
            })?,
        };
        let stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await;
        // Whether it then went on without one or not: it is reported as what it is.
        if asked.0.load(Ordering::Relaxed) {
            return Err(FetchError::AsksForCertificate);
        }
        stream.map_err(|source| FetchError::Tls {
            host: url.authority(),
            source,
        })
    }

    /// Connects to an address that was judged, and to no other that the name may have a moment later.
    async fn dial(&self, url: &EndpointUrl) -> Result<TcpStream, FetchError> {
        let host = || url.authority();
        let mut forbidden: Option<ForbiddenAddress> = None;
        let mut failed: Option<io::Error> = None;
        for address in resolve(url).await?.into_iter().take(ADDRESSES) {
            if let Err(refused) = self.rule.check(address) {
                forbidden = Some(refused);
                continue;
            }
            let address = SocketAddr::new(address, url.port());
            match tokio::time::timeout(CONNECT, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    stream.set_nodelay(true).ok();
                    return Ok(stream);
                }
                Ok(Err(error)) => failed = Some(error),
                Err(_) => failed = Some(io::ErrorKind::TimedOut.into()),
            }
        }
        match (failed, forbidden) {
            (Some(source), _) => Err(FetchError::Connect { host: host(), source }),
            (None, Some(refused)) => Err(refused.into()),
            (None, None) => Err(FetchError::Resolve {
                host: host(),
                source: io::Error::new(io::ErrorKind::NotFound, "it has no address"),
            }),
        }
    }

    async fn config(
        &self,
        authentication: &Authentication,
        asked: Arc<Asked>,
    ) -> Result<ClientConfig, FetchError> {
        let mut config = match authentication {
            Authentication::Web => ClientConfig::builder_with_provider(web_provider())
                .with_protocol_versions(&[&TLS13, &TLS12])?
                .with_root_certificates(self.roots.current().await)
                .with_client_cert_resolver(asked),
            Authentication::Spiffe { id, bundle } => {
                let provider = provider();
                let bundles = Arc::new(ArcSwap::from(Arc::clone(bundle)));
                let ids = PeerIds::Exactly(id.clone());
                let verifier = PeerVerifier::new(bundles, ids, ClientAuth::Required, &provider);
                ClientConfig::builder_with_provider(provider)
                    .with_protocol_versions(&[&TLS13])?
                    .dangerous()
                    .with_custom_certificate_verifier(Arc::new(verifier))
                    .with_client_cert_resolver(asked)
            }
        };
        config.resumption = Resumption::disabled();
        config.alpn_protocols = vec![HTTP.to_vec()];
        Ok(config)
    }
}

async fn resolve(url: &EndpointUrl) -> Result<Vec<IpAddr>, FetchError> {
    match url.host() {
        Host::Address(address) => Ok(vec![*address]),
        Host::Name(name) => {
            let found = tokio::net::lookup_host((name.as_str(), url.port())).await;
            let found = found.map_err(|source| FetchError::Resolve {
                host: name.clone(),
                source,
            })?;
            Ok(found.map(|address| address.ip()).collect())
        }
    }
}

/// Shows nothing, and remembers whether something was asked for.
#[derive(Debug, Default)]
struct Asked(AtomicBool);

impl ResolvesClientCert for Asked {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.store(true, Ordering::Relaxed);
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}
