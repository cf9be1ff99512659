//! A server that speaks the part of Vault's API that is used here, over TLS: logins, tokens, the PKI engine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use muster_identity::{Lifetime, TrustDomain, UnixTime};
use muster_pki::x509::{
    Csr, IntermediateProfile, IntermediateSubject, IssuingAuthority, Name, NameAttribute, RawName,
    issue_intermediate,
};
use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::answer::pem;

/// What the server knows and what it was asked.
pub(super) struct State {
    pub(super) trust_domain: TrustDomain,
    pub(super) now: UnixTime,
    /// Signs what is asked for, with what stands above it in `chain`.
    pub(super) ca: IssuingAuthority,
    pub(super) ca_chain: Vec<Vec<u8>>,
    /// Tokens that count, and whether a login made them.
    pub(super) tokens: BTreeMap<String, bool>,
    /// Each call: method, path, body.
    pub(super) calls: Vec<(String, String, Value)>,
    /// What is answered instead, if anything.
    pub(super) broken: Option<(StatusCode, &'static str)>,
    pub(super) renewals: usize,
}

/// The server, until it is dropped.
pub(super) struct TestServer {
    pub(super) address: String,
    pub(super) folder: tempfile::TempDir,
    pub(super) state: Arc<Mutex<State>>,
    serving: JoinHandle<()>,
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl TestServer {
    /// Serves on a free port of the loopback. In its folder: `ca.pem` that vouches for it, `client.pem` and `client.key` for a login by certificate.
    pub(super) async fn start(state: State) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tls = tls(folder.path());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        #[expect(
            clippy::disallowed_methods,
            reason = "a server of a test has no tasks to be a child of"
        )]
        let serving = tokio::spawn(async move {
            let acceptor = TlsAcceptor::from(tls);
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let Ok(tls) = acceptor.accept(tcp).await else {
                    continue;
                };
                let by_certificate = tls.get_ref().1.peer_certificates().is_some();
                let shared = Arc::clone(&shared);
                let service = service_fn(move |request| answer(Arc::clone(&shared), by_certificate, request));
                // One call a connection, as the client makes them.
                let served = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(tls), service)
                    .await;
                served.ok();
            }
        });
        Self {
            address,
            folder,
            state,
            serving,
        }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn tls(folder: &Path) -> Arc<ServerConfig> {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let issue = |names: Vec<String>| {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names)
            .unwrap()
            .signed_by(&key, &authority)
            .unwrap();
        (certificate, key)
    };
    let (server, server_key) = issue(vec!["127.0.0.1".into()]);
    let (client, client_key) = issue(vec!["client".into()]);
    std::fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
    std::fs::write(folder.join("client.pem"), client.pem()).unwrap();
    secret(&folder.join("client.key"), &client_key.serialize_pem());
    let mut clients = RootCertStore::empty();
    clients.add(authority.der().clone()).unwrap();
    let provider = muster_pki::tls::provider();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(clients), provider.clone())
        .allow_unauthenticated()
        .build()
        .unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![server.der().clone()],
            PrivateKeyDer::from_pem_slice(server_key.serialize_pem().as_bytes()).unwrap(),
        )
        .unwrap();
    Arc::new(config)
}

/// A file that nobody else may read.
pub(super) fn secret(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

async fn answer(
    state: Arc<Mutex<State>>,
    by_certificate: bool,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let token = head
        .headers
        .get("X-Vault-Token")
        .map(|token| token.to_str().unwrap().to_owned());
    let (status, answer) =
        state
            .lock()
            .unwrap()
            .answer(&head.method, head.uri.path(), token, by_certificate, &body);
    let answer = if answer.is_null() {
        Bytes::new()
    } else {
        Bytes::from(answer.to_string())
    };
    Ok(Response::builder()
        .status(status)
        .body(Full::new(answer))
        .unwrap())
}

impl State {
    fn answer(
        &mut self,
        method: &Method,
        path: &str,
        token: Option<String>,
        by_certificate: bool,
        body: &Value,
    ) -> (StatusCode, Value) {
        self.calls
            .push((method.to_string(), path.to_owned(), body.clone()));
        if let Some((status, why)) = self.broken {
            return (status, json!({"errors": [why]}));
        }
        let proven = match path {
            "/v1/auth/approle/login" => body["role_id"] == "role" && body["secret_id"] == "s3cret",
            "/v1/auth/cert/login" => by_certificate,
            "/v1/auth/kubernetes/login" => body["role"] == "muster" && body["jwt"] == "service.account.token",
            _ => {
                let Some(token) = token.filter(|token| self.tokens.contains_key(token)) else {
                    return (StatusCode::FORBIDDEN, json!({"errors": ["permission denied"]}));
                };
                return self.with_token(path, &token, body);
            }
        };
        if !proven {
            return (
                StatusCode::BAD_REQUEST,
                json!({"errors": ["invalid credentials"]}),
            );
        }
        let token = format!("s.{}", self.calls.len());
        self.tokens.insert(token.clone(), true);
        let auth = json!({"client_token": token, "lease_duration": 3600, "renewable": true});
        (StatusCode::OK, json!({"auth": auth}))
    }

    fn with_token(&mut self, path: &str, token: &str, body: &Value) -> (StatusCode, Value) {
        match path {
            "/v1/auth/token/lookup-self" => {
                let data = json!({"id": token, "ttl": 2, "renewable": true});
                (StatusCode::OK, json!({"data": data}))
            }
            "/v1/auth/token/renew-self" => {
                self.renewals += 1;
                let auth = json!({"client_token": token, "lease_duration": 2, "renewable": true});
                (StatusCode::OK, json!({"auth": auth}))
            }
            "/v1/auth/token/revoke-self" => {
                self.tokens.remove(token);
                (StatusCode::NO_CONTENT, Value::Null)
            }
            "/v1/pki/root/sign-intermediate" => match self.sign(body) {
                Some(data) => (StatusCode::OK, json!({"data": data})),
                None => (StatusCode::BAD_REQUEST, json!({"errors": ["unsupported csr"]})),
            },
            _ => (StatusCode::NOT_FOUND, json!({"errors": []})),
        }
    }

    fn sign(&self, body: &Value) -> Option<Value> {
        let text = |field: &str| body[field].as_str().unwrap_or_default().to_owned();
        let csr =
            rustls_pki_types::CertificateSigningRequestDer::from_pem_slice(text("csr").as_bytes()).ok()?;
        let csr = Csr::parse(&csr).ok()?;
        assert_eq!(text("uri_sans"), self.trust_domain.id().to_string());
        let seconds = text("ttl").strip_suffix('s')?.parse().ok()?;
        let subject = [
            (NameAttribute::Country, "country"),
            (NameAttribute::Organization, "organization"),
            (NameAttribute::SerialNumber, "serial_number"),
        ];
        let subject = subject
            .into_iter()
            .try_fold(Name::empty(), |name, (attribute, field)| {
                name.with(attribute, &text(field))
            })
            .ok()?;
        let profile = IntermediateProfile {
            trust_domain: self.trust_domain.clone(),
            public_key: csr.public_key().clone(),
            subject: IntermediateSubject::Named(RawName::parse(&subject.to_der()).ok()?),
            now: self.now,
            lifetime: Lifetime::from_secs(seconds).ok()?,
        };
        let chain = issue_intermediate(&self.ca, &profile).ok()?;
        let mut data = json!({
            "certificate": pem("CERTIFICATE", &chain[0]),
            "issuing_ca": pem("CERTIFICATE", self.ca.authority().der()),
        });
        if !self.ca_chain.is_empty() {
            // As newer versions answer: the certificate itself stands in the chain too.
            let all = std::iter::once(chain[0].to_vec()).chain(self.ca_chain.iter().cloned());
            data["ca_chain"] = all.map(|der| pem("CERTIFICATE", &der)).collect();
        }
        Some(data)
    }
}
