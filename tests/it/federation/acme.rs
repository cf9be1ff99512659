//! An endpoint that gets its certificate from an ACME directory: one of the story's own, which keeps RFC 8555 and RFC 8737 as far as an order goes.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use muster_tests::{Cluster, PATIENCE, Web, until};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use super::pair::settings;

const DOMAIN: &str = "bundles.example.org";
const TOKEN: &str = "a-token-that-nobody-guessed";

/// What the directory knows.
#[derive(Default)]
struct Directory {
    thumbprint: String,
    contact: Value,
    /// Where the endpoint is that must prove its name; DNS would say.
    endpoint: Option<SocketAddr>,
    proved: bool,
    chain: Option<String>,
    orders: usize,
}

struct Acme {
    address: SocketAddr,
    web: Web,
    known: Mutex<Directory>,
    changed: Condvar,
}

#[test]
fn the_endpoint_gets_a_certificate_by_acme_and_keeps_it_over_a_restart() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let acme = Arc::new(Acme {
        address: listener.local_addr().unwrap(),
        web: Web::new(),
        known: Mutex::default(),
        changed: Condvar::new(),
    });
    let serving = Arc::clone(&acme);
    thread::spawn(move || serving.serve(&listener));

    let config = format!(
        "[federation]\nallow_loopback = true\n[federation.endpoint]\nlisten = \"127.0.0.1:0\"\nprofile = \"https_web\"\n[federation.endpoint.acme]\ndirectory = \"https://{}/directory\"\ndomain = \"{DOMAIN}\"\nemail = \"ops@example.org\"\nterms_accepted = true\nca_file = \"{}\"\n",
        acme.address,
        acme.web.ca_file().display()
    );
    let mut ours = Cluster::start_server_only(&settings(config));
    acme.lock().endpoint = Some(ours.bundle_endpoint());
    acme.changed.notify_all();
    ours.server()
        .line("the certificate", |line| line.contains("shows a new certificate"));
    assert_eq!(acme.lock().contact, json!(["mailto:ops@example.org"]));
    let fetched = acme.fetch(ours.bundle_endpoint()).unwrap();
    assert!(
        fetched.starts_with("HTTP/1.1 200") && fetched.contains("spiffe_sequence"),
        "{fetched}"
    );

    // Account, key and certificate are kept, sealed: no second order.
    let kept = std::fs::read(ours.path().join("server/data/acme")).unwrap();
    assert!(!String::from_utf8_lossy(&kept).contains("PRIVATE KEY"));
    ours.take_server().kill();
    ours.start_server();
    until("the endpoint to show it again", || {
        acme.fetch(ours.bundle_endpoint()).is_some()
    });
    assert_eq!(acme.lock().orders, 1);
}

impl Acme {
    fn lock(&self) -> MutexGuard<'_, Directory> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(self: &Arc<Self>, listener: &TcpListener) {
        let tls = self.web.server("127.0.0.1", false, |_| {});
        for tcp in listener.incoming() {
            let (acme, tls) = (Arc::clone(self), Arc::clone(&tls));
            thread::spawn(move || {
                let connection = ServerConnection::new(tls).unwrap();
                let mut stream = BufReader::new(StreamOwned::new(connection, tcp.unwrap()));
                let mut line = String::new();
                if stream.read_line(&mut line).is_err() {
                    return;
                }
                let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
                let mut length = 0;
                loop {
                    let mut header = String::new();
                    if stream.read_line(&mut header).is_err() || header.trim().is_empty() {
                        break;
                    }
                    if let Some(value) = header.to_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                }
                let mut body = vec![0; length];
                stream.read_exact(&mut body).unwrap();
                let answer = acme.answer(&path, &body);
                let stream = stream.get_mut();
                stream.write_all(answer.as_bytes()).ok();
                stream.conn.send_close_notify();
                stream.flush().ok();
            });
        }
    }

    fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }

    fn answer(&self, path: &str, body: &[u8]) -> String {
        let (protected, payload) = signed(body);
        match path {
            "/directory" => reply(
                200,
                &[],
                &json!({
                    "newNonce": self.url("/nonce"),
                    "newAccount": self.url("/account"),
                    "newOrder": self.url("/order"),
                    "revokeCert": self.url("/revoke"),
                    "keyChange": self.url("/key-change"),
                }),
            ),
            "/nonce" => reply(200, &[], &Value::Null),
            "/account" => {
                let mut known = self.lock();
                known.thumbprint = thumbprint(&protected["jwk"]);
                known.contact = payload["contact"].clone();
                reply(
                    201,
                    &[("location", self.url("/account/1"))],
                    &json!({"status": "valid"}),
                )
            }
            "/order" => {
                assert_eq!(payload["identifiers"][0]["value"], DOMAIN);
                self.lock().orders += 1;
                reply(201, &[("location", self.url("/order/1"))], &self.order())
            }
            "/order/1" => reply(200, &[], &self.order()),
            "/authorization/1" => {
                let status = if self.lock().proved { "valid" } else { "pending" };
                reply(
                    200,
                    &[],
                    &json!({
                        "status": status,
                        "identifier": {"type": "dns", "value": DOMAIN},
                        "challenges": [self.challenge("dns-01"), self.challenge("tls-alpn-01")],
                    }),
                )
            }
            "/challenge/tls-alpn-01" => {
                self.prove();
                reply(200, &[], &self.challenge("tls-alpn-01"))
            }
            "/finalize/1" => {
                let csr = URL_SAFE_NO_PAD.decode(payload["csr"].as_str().unwrap()).unwrap();
                let chain = self.web.sign(&csr);
                self.lock().chain = Some(chain);
                reply(200, &[], &self.order())
            }
            "/certificate/1" => {
                let chain = self.lock().chain.clone().unwrap();
                format!(
                    "HTTP/1.1 200 OK\r\nreplay-nonce: n\r\ncontent-type: application/pem-certificate-chain\r\ncontent-length: {}\r\n\r\n{chain}",
                    chain.len()
                )
            }
            other => reply(
                404,
                &[],
                &json!({"type": "urn:ietf:params:acme:error:malformed", "detail": other}),
            ),
        }
    }

    fn challenge(&self, kind: &str) -> Value {
        let status = if self.lock().proved { "valid" } else { "pending" };
        json!({"type": kind, "url": self.url(&format!("/challenge/{kind}")), "token": TOKEN, "status": status})
    }

    fn order(&self) -> Value {
        let known = self.lock();
        let status = match (known.proved, known.chain.is_some()) {
            (_, true) => "valid",
            (true, false) => "ready",
            (false, false) => "pending",
        };
        let mut order = json!({
            "status": status,
            "identifiers": [{"type": "dns", "value": DOMAIN}],
            "authorizations": [self.url("/authorization/1")],
            "finalize": self.url("/finalize/1"),
        });
        if known.chain.is_some() {
            order["certificate"] = self.url("/certificate/1").into();
        }
        order
    }

    /// Looks whether the endpoint shows the proof (RFC 8737 3), to whoever asks for it and to nobody else.
    fn prove(&self) {
        let known = self.lock();
        let (known, _) = self
            .changed
            .wait_timeout_while(known, PATIENCE, |known| known.endpoint.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        let (endpoint, thumbprint) = (known.endpoint.unwrap(), known.thumbprint.clone());
        drop(known);
        let expected = digest(&SHA256, format!("{TOKEN}.{thumbprint}").as_bytes());
        let shown = certificate(endpoint, &[b"acme-tls/1"]).expect("the proof");
        // The extension's value is an octet string in an octet string: its bytes stand in the certificate once.
        let found = shown
            .windows(expected.as_ref().len())
            .any(|part| part == expected.as_ref());
        assert!(
            found,
            "the certificate has no acmeIdentifier that proves the name"
        );
        assert!(
            certificate(endpoint, &[b"http/1.1"]).is_none(),
            "there is nothing to show yet"
        );
        self.lock().proved = true;
    }

    /// The endpoint's document, when it shows a certificate of ours for its name.
    fn fetch(&self, endpoint: SocketAddr) -> Option<String> {
        let mut roots = RootCertStore::empty();
        let pem = std::fs::read_to_string(self.web.ca_file()).unwrap();
        roots.add(muster_tests::from_pem(&pem).into()).unwrap();
        let config =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
        let tls = ClientConnection::new(Arc::new(config), DOMAIN.try_into().unwrap()).unwrap();
        let tcp = TcpStream::connect(endpoint).unwrap();
        tcp.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut stream = StreamOwned::new(tls, tcp);
        let request = format!("GET / HTTP/1.1\r\nhost: {DOMAIN}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok();
        (!answer.is_empty()).then(|| String::from_utf8_lossy(&answer).into_owned())
    }
}

/// What the endpoint shows to who offers these protocols, whoever vouches for it.
fn certificate(endpoint: SocketAddr, protocols: &[&[u8]]) -> Option<Vec<u8>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    let mut tls = ClientConnection::new(Arc::new(config), DOMAIN.try_into().unwrap()).unwrap();
    let mut tcp = TcpStream::connect(endpoint).unwrap();
    while tls.is_handshaking() {
        tls.complete_io(&mut tcp).ok()?;
    }
    tls.peer_certificates().map(|chain| chain[0].to_vec())
}

/// Believes everybody: the proof is in the certificate, not in who signed it.
#[derive(Debug)]
struct Anybody;

impl rustls::client::danger::ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Header and payload of a signed request.
fn signed(body: &[u8]) -> (Value, Value) {
    let jws: Value = serde_json::from_slice(body).unwrap_or_default();
    let part = |name: &str| {
        let bytes = URL_SAFE_NO_PAD
            .decode(jws[name].as_str().unwrap_or_default())
            .unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    };
    (part("protected"), part("payload"))
}

/// RFC 7638, for a P-256 key.
fn thumbprint(jwk: &Value) -> String {
    let canonical = format!(
        "{{\"crv\":{},\"kty\":{},\"x\":{},\"y\":{}}}",
        jwk["crv"], jwk["kty"], jwk["x"], jwk["y"]
    );
    URL_SAFE_NO_PAD.encode(digest(&SHA256, canonical.as_bytes()))
}

fn reply(status: u16, headers: &[(&str, String)], body: &Value) -> String {
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let more: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    format!(
        "HTTP/1.1 {status} X\r\nreplay-nonce: n\r\ncontent-type: application/json\r\nconnection: close\r\n{more}content-length: {}\r\n\r\n{body}",
        body.len()
    )
}
