//! One HTTPS call after the other, each on a connection of its own: they are rare, and files may have changed since the last.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use muster_plugin_api::UpstreamError;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivateKeyDer, ServerName};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use super::{SYSTEM_AUTHORITIES, VaultAuth, VaultConfig};
use crate::file;

/// How long one call may take, with its connection.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
/// A certificate with its chain has some KiB.
const MOST_BYTES: usize = 1 << 20;
/// How much of what the server says against us is passed on.
const MOST_REASON: usize = 400;

/// A token of Vault's. It is never printed.
pub(super) struct Token(pub(super) Zeroizing<String>);

/// Where to call, and by which TLS.
pub(super) struct Client {
    server: String,
    host: ServerName<'static>,
    namespace: Option<String>,
    tls: Arc<ClientConfig>,
}

impl Client {
    /// Reads the files that the connection needs. Their sizes are bounded and they are few: it may be done here.
    pub(super) fn open(config: &VaultConfig) -> Result<Self, UpstreamError> {
        let wrong = |error: Box<dyn std::error::Error + Send + Sync>| {
            UpstreamError::unusable(format!("{:?} is no address of a Vault", config.server), error)
        };
        let (host, _) = config
            .server
            .rsplit_once(':')
            .ok_or_else(|| wrong("it has no port".into()))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let host = ServerName::try_from(host).map_err(|error| wrong(error.into()))?;
        Ok(Self {
            server: config.server.clone(),
            host,
            namespace: config.namespace.clone(),
            tls: tls(config)?,
        })
    }

    /// Writes, and answers with what came back.
    pub(super) async fn post(
        &self,
        what: &str,
        path: &str,
        token: Option<&Token>,
        body: &Value,
    ) -> Result<Value, UpstreamError> {
        let body = Bytes::from(body.to_string());
        self.call(what, Method::POST, path, token, body).await
    }

    /// Reads.
    pub(super) async fn get(&self, what: &str, path: &str, token: &Token) -> Result<Value, UpstreamError> {
        self.call(what, Method::GET, path, Some(token), Bytes::new())
            .await
    }

    /// Something that the server said can't be used.
    pub(super) fn unusable(
        &self,
        what: &str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> UpstreamError {
        UpstreamError::unusable(
            format!("{what}, from Vault at {}, can't be used", self.server),
            source,
        )
    }

    async fn call(
        &self,
        what: &str,
        method: Method,
        path: &str,
        token: Option<&Token>,
        body: Bytes,
    ) -> Result<Value, UpstreamError> {
        let doing = || format!("{what}, at Vault {}", self.server);
        let request = self
            .request(method, path, token, body)
            .map_err(|error| UpstreamError::unusable(doing(), error))?;
        let sent = tokio::time::timeout(ANSWER_WITHIN, self.send(request)).await;
        let sent = sent.map_err(|elapsed| UpstreamError::unavailable(doing(), elapsed))?;
        let (status, body) = sent.map_err(|error| UpstreamError::unavailable(doing(), error))?;
        if status.is_success() {
            if body.is_empty() {
                return Ok(Value::Null);
            }
            return serde_json::from_slice(&body).map_err(|error| UpstreamError::unusable(doing(), error));
        }
        let reason = format!("status {}: {}", status.as_u16(), reason(&body));
        if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS {
            return Err(UpstreamError::Refused {
                what: doing(),
                reason,
            });
        }
        Err(UpstreamError::unavailable(doing(), reason))
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        token: Option<&Token>,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, http::Error> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.server)
            .header("X-Vault-Request", "true")
            .header(CONTENT_TYPE, "application/json");
        if let Some(namespace) = &self.namespace {
            request = request.header("X-Vault-Namespace", namespace);
        }
        if let Some(Token(token)) = token {
            let mut token = HeaderValue::from_str(token)?;
            token.set_sensitive(true);
            request = request.header("X-Vault-Token", token);
        }
        request.body(Full::new(body))
    }

    async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>> {
        let tcp = TcpStream::connect(&self.server).await?;
        let tls = TlsConnector::from(Arc::clone(&self.tls))
            .connect(self.host.clone(), tcp)
            .await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(tls)).await?;
        let answer = async move {
            let answer = sender.send_request(request).await?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), MOST_BYTES).collect().await?;
            Ok((status, body.to_bytes()))
        };
        // The connection ends when its one call is answered and the sender is gone. How it ends tells nothing that the answer does not.
        let (answer, _) = tokio::join!(answer, connection);
        answer
    }
}

fn tls(config: &VaultConfig) -> Result<Arc<ClientConfig>, UpstreamError> {
    let path = config.ca_cert.as_deref().unwrap_or(Path::new(SYSTEM_AUTHORITIES));
    let mut authorities = RootCertStore::empty();
    // The system's file may hold some that are of no use for TLS; a file of ours with none that is, is a mistake.
    let (added, _) = authorities.add_parsable_certificates(file::certificates(path)?);
    if added == 0 {
        return Err(file::unusable(
            path,
            "no certificate in it can vouch for a server",
        ));
    }
    let wrong = |error: rustls::Error| UpstreamError::unusable("setting up TLS for Vault", error);
    let builder = ClientConfig::builder_with_provider(muster_pki::tls::provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(wrong)?
        .with_root_certificates(authorities);
    let mut tls = match &config.auth {
        VaultAuth::Cert { cert, key, .. } => {
            let pem = file::read_secret(key)?;
            let private = PrivateKeyDer::from_pem_slice(&pem)
                .map_err(|error| file::unusable(key, error.to_string()))?;
            builder
                .with_client_auth_cert(file::certificates(cert)?, private)
                .map_err(wrong)?
        }
        _ => builder.with_no_client_auth(),
    };
    tls.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(tls))
}

/// What Vault says against a request: `{"errors": [...]}`.
fn reason(body: &[u8]) -> String {
    let said: Value = serde_json::from_slice(body).unwrap_or_default();
    let errors = said.get("errors").and_then(Value::as_array);
    let texts = errors.into_iter().flatten().filter_map(Value::as_str);
    let joined = texts.collect::<Vec<_>>().join("; ");
    if joined.is_empty() {
        return "without a reason".to_owned();
    }
    joined
        .chars()
        .filter(|c| !c.is_control())
        .take(MOST_REASON)
        .collect()
}
