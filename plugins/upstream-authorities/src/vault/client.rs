//! One HTTPS call after the other, each on a connection of its own: they are rare, and files may have changed since the last.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use muster_pki::SecretBytes;
use muster_plugin_api::UpstreamError;
use muster_transport::{HttpsClient, HttpsTls};
use serde_json::Value;
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
    https: HttpsClient,
    namespace: Option<String>,
}

impl Client {
    /// Reads the files that the connection needs. Their sizes are bounded and they are few: it may be done here.
    pub(super) fn open(config: &VaultConfig) -> Result<Self, UpstreamError> {
        let wrong = |error: Box<dyn std::error::Error + Send + Sync>| {
            UpstreamError::unusable(format!("{:?} is no address of a Vault", config.server), error)
        };
        let has_port = config.server.rsplit_once(':').is_some();
        let address = format!("https://{}", config.server).parse::<Uri>();
        let address = match address {
            Ok(address) if has_port => address,
            Ok(_) => return Err(wrong("it has no port".into())),
            Err(error) => return Err(wrong(error.into())),
        };
        let https = HttpsClient::new(&address, tls(config)?, ANSWER_WITHIN, MOST_BYTES);
        Ok(Self {
            server: config.server.clone(),
            https: https.map_err(|error| wrong(error.into()))?,
            namespace: config.namespace.clone(),
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
        let answer = self.https.send(request).await;
        let answer = answer.map_err(|error| UpstreamError::unavailable(doing(), error))?;
        let (status, body) = (answer.status(), answer.into_body());
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
    ) -> Result<Request<Bytes>, http::Error> {
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
        request.body(body)
    }
}

/// Reads the files that the connection needs.
fn tls(config: &VaultConfig) -> Result<HttpsTls, UpstreamError> {
    let path = config.ca_cert.as_deref().unwrap_or(Path::new(SYSTEM_AUTHORITIES));
    let identity = match &config.auth {
        VaultAuth::Cert { cert, key, .. } => {
            let key = SecretBytes::new(file::read_secret(key)?.to_vec());
            Some((file::read(cert)?.to_vec(), key))
        }
        _ => None,
    };
    Ok(HttpsTls {
        authorities: file::read(path)?.to_vec(),
        identity,
        server_name: None,
    })
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
