//! One connection to a cluster's API server: three questions and their answers.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use muster_pki::tls::provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use super::kube_config::{Credentials, Endpoint, KubeConfigError};
use super::objects::{Object, Review, ReviewSpec, ReviewStatus, Reviewed};

/// How long TCP and TLS may take together.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// The longest answer. A machine's object names all images on it, and is still far smaller.
const LONGEST_ANSWER: usize = 8 << 20;

type Connection = Pin<Box<dyn Future<Output = Result<(), hyper::Error>> + Send>>;

/// An API server that proved to be the one that was configured.
pub(super) struct ApiServer {
    requests: http1::SendRequest<Full<Bytes>>,
    /// It moves only while a question is asked; with the last one it ends.
    connection: Connection,
    host: HeaderValue,
    prefix: String,
    authorization: Option<HeaderValue>,
}

/// Why an API server did not answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    /// What is configured can't be used.
    #[error(transparent)]
    Config(#[from] KubeConfigError),
    #[error("the address of the API server is not https://host:port")]
    Address,
    #[error("the certificates or the key for the API server")]
    Pem(#[source] rustls::pki_types::pem::Error),
    #[error("preparing TLS to the API server")]
    Tls(#[source] rustls::Error),
    #[error("connecting to the API server at {host}")]
    Connect { host: String, source: io::Error },
    #[error("speaking to the API server")]
    Http(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the API server answered {status} to {asked}")]
    Status { status: StatusCode, asked: &'static str },
    #[error("the API server's answer to {asked} is not what it should be")]
    Answer {
        asked: &'static str,
        source: serde_json::Error,
    },
}

impl ApiServer {
    /// Connects.
    pub(super) async fn connect(endpoint: Endpoint) -> Result<Self, ApiError> {
        let uri: Uri = endpoint.server.parse().map_err(|_| ApiError::Address)?;
        let host = uri
            .host()
            .filter(|_| uri.scheme_str() == Some("https"))
            .ok_or(ApiError::Address)?;
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = uri.port_u16().unwrap_or(443);
        let name = endpoint.server_name.clone().unwrap_or_else(|| bare.clone());
        let name = ServerName::try_from(name).map_err(|_| ApiError::Address)?;
        let authority = uri
            .authority()
            .map(|authority| authority.as_str())
            .unwrap_or_default();
        let header = HeaderValue::from_str(authority).map_err(|_| ApiError::Address)?;
        let prefix = uri.path().trim_end_matches('/').to_owned();
        let (tls, authorization) = client(endpoint)?;

        let opening = async {
            let tcp = TcpStream::connect((bare.as_str(), port)).await?;
            tcp.set_nodelay(true)?;
            TlsConnector::from(Arc::new(tls)).connect(name, tcp).await
        };
        let opened = tokio::time::timeout(CONNECT_WITHIN, opening).await;
        let stream = opened.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let stream = stream.map_err(|source| ApiError::Connect {
            host: authority.to_owned(),
            source,
        })?;
        let (requests, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(http)?;
        Ok(Self {
            requests,
            connection: Box::pin(connection),
            host: header,
            prefix,
            authorization,
        })
    }

    /// What the cluster says of a token.
    pub(super) async fn review(
        &mut self,
        token: &str,
        audiences: &[String],
    ) -> Result<ReviewStatus, ApiError> {
        const ASKED: &str = "a TokenReview";
        let review = Review {
            api_version: "authentication.k8s.io/v1",
            kind: "TokenReview",
            spec: ReviewSpec { token, audiences },
        };
        let body = serde_json::to_vec(&review).map_err(|source| ApiError::Answer { asked: ASKED, source })?;
        let path = "/apis/authentication.k8s.io/v1/tokenreviews";
        let reviewed: Reviewed = self.ask(Method::POST, path, body, ASKED).await?;
        Ok(reviewed.status)
    }

    /// A pod. Both names were checked to be names.
    pub(super) async fn pod(&mut self, namespace: &str, name: &str) -> Result<Object, ApiError> {
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
        self.ask(Method::GET, &path, Vec::new(), "the agent's pod").await
    }

    /// A machine of the cluster. Its name was checked to be one.
    pub(super) async fn node(&mut self, name: &str) -> Result<Object, ApiError> {
        let path = format!("/api/v1/nodes/{name}");
        self.ask(Method::GET, &path, Vec::new(), "the pod's node").await
    }

    async fn ask<T: DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
        body: Vec<u8>,
        asked: &'static str,
    ) -> Result<T, ApiError> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.prefix))
            .header(HOST, self.host.clone())
            .header(ACCEPT, "application/json");
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        let request = request.body(Full::new(Bytes::from(body))).map_err(http)?;
        let Self {
            requests, connection, ..
        } = self;
        let asking = async {
            requests.ready().await.map_err(http)?;
            let answer = requests.send_request(request).await.map_err(http)?;
            let status = answer.status();
            if !status.is_success() {
                return Err(ApiError::Status { status, asked });
            }
            let body = Limited::new(answer.into_body(), LONGEST_ANSWER).collect().await;
            Ok(body.map_err(ApiError::Http)?.to_bytes())
        };
        let body = tokio::select! {
            biased;
            answer = asking => answer?,
            ended = connection => {
                let why = ended.map_or_else(http, |()| http(io::Error::from(io::ErrorKind::UnexpectedEof)));
                return Err(why);
            }
        };
        serde_json::from_slice(&body).map_err(|source| ApiError::Answer { asked, source })
    }
}

impl ApiError {
    /// What the account of ours lacks, when that is why.
    pub(super) fn is_forbidden(&self) -> bool {
        matches!(self, Self::Status { status, .. } if [StatusCode::FORBIDDEN, StatusCode::UNAUTHORIZED].contains(status))
    }
}

impl fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiServer")
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

/// TLS to the API server, and the header that says who we are when no certificate does.
fn client(endpoint: Endpoint) -> Result<(ClientConfig, Option<HeaderValue>), ApiError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&endpoint.ca) {
        roots
            .add(certificate.map_err(ApiError::Pem)?)
            .map_err(ApiError::Tls)?;
    }
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(ApiError::Tls)?
        .with_root_certificates(roots);
    let (mut config, authorization) = match endpoint.credentials {
        Credentials::Token(token) => {
            let text = Zeroizing::new(format!("Bearer {}", token.as_str()));
            let mut header = HeaderValue::from_str(&text).map_err(http)?;
            header.set_sensitive(true);
            (builder.with_no_client_auth(), Some(header))
        }
        Credentials::Certificate { certificate, key } => {
            let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&certificate).collect();
            let key = PrivateKeyDer::from_pem_slice(key.expose_secret()).map_err(ApiError::Pem)?;
            let config = builder.with_client_auth_cert(chain.map_err(ApiError::Pem)?, key);
            (config.map_err(ApiError::Tls)?, None)
        }
    };
    config.resumption = rustls::client::Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((config, authorization))
}

fn http(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ApiError {
    ApiError::Http(error.into())
}
