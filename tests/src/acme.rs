use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rustls::{ServerConnection, StreamOwned};
use serde_json::{Value, json};

use crate::{PATIENCE, Web, shown_certificate};

const TOKEN: &str = "a-token-that-nobody-guessed";

/// An ACME directory of a story's own, which keeps RFC 8555 and RFC 8737 as far as an order for one name goes. It proves the name at the door that
/// [`AcmeDirectory::prove_at`] is told, where DNS would say.
pub struct AcmeDirectory {
    shared: Arc<Shared>,
}

struct Shared {
    address: SocketAddr,
    domain: &'static str,
    life: Option<Duration>,
    web: Web,
    known: Mutex<Known>,
    changed: Condvar,
}

/// What the directory knows.
#[derive(Default)]
struct Known {
    thumbprint: String,
    contact: Value,
    /// Where the door is that must prove its name.
    door: Option<SocketAddr>,
    proved: bool,
    chain: Option<String>,
    orders: usize,
}

impl AcmeDirectory {
    /// Starts one that gives certificates for `domain`, for as good as ever.
    pub fn start(domain: &'static str) -> Self {
        Self::start_with(domain, None)
    }

    /// Starts one that gives certificates for `domain` which live for so long.
    pub fn start_short(domain: &'static str, life: Duration) -> Self {
        Self::start_with(domain, Some(life))
    }

    fn start_with(domain: &'static str, life: Option<Duration>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let shared = Arc::new(Shared {
            address: listener.local_addr().unwrap(),
            domain,
            life,
            web: Web::new(),
            known: Mutex::default(),
            changed: Condvar::new(),
        });
        let serving = Arc::clone(&shared);
        thread::spawn(move || serving.serve(&listener));
        Self { shared }
    }

    /// The keys of a table `acme` that points at it.
    pub fn config(&self) -> String {
        format!(
            "directory = \"https://{}/directory\"\ndomain = \"{}\"\nemail = \"ops@example.org\"\nterms_accepted = true\nca_file = \"{}\"\n",
            self.shared.address,
            self.shared.domain,
            self.ca_file().display()
        )
    }

    /// Who vouches for the directory itself and for what it gives.
    pub fn ca_file(&self) -> PathBuf {
        self.shared.web.ca_file()
    }

    /// The same, for whoever takes a whole Web PKI.
    pub fn web(&self) -> &Web {
        &self.shared.web
    }

    /// Where the door is that must prove the name.
    pub fn prove_at(&self, door: SocketAddr) {
        self.shared.lock().door = Some(door);
        self.shared.changed.notify_all();
    }

    /// How many orders there were.
    pub fn orders(&self) -> usize {
        self.shared.lock().orders
    }

    /// Whom the newest account named to be written to.
    pub fn contact(&self) -> Value {
        self.shared.lock().contact.clone()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(self: &Arc<Self>, listener: &TcpListener) {
        let tls = self.web.server("127.0.0.1", false, |_| {});
        for tcp in listener.incoming() {
            let (directory, tls) = (Arc::clone(self), Arc::clone(&tls));
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
                let answer = directory.answer(&path, &body);
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
                assert_eq!(payload["identifiers"][0]["value"], self.domain);
                let mut known = self.lock();
                (known.proved, known.chain) = (false, None);
                known.orders += 1;
                drop(known);
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
                        "identifier": {"type": "dns", "value": self.domain},
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
                let chain = self.web.sign(&csr, self.life);
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
            "identifiers": [{"type": "dns", "value": self.domain}],
            "authorizations": [self.url("/authorization/1")],
            "finalize": self.url("/finalize/1"),
        });
        if known.chain.is_some() {
            order["certificate"] = self.url("/certificate/1").into();
        }
        order
    }

    /// Looks whether the door shows the proof (RFC 8737 3), to whoever asks for it and to nobody else.
    fn prove(&self) {
        let known = self.lock();
        let (known, _) = self
            .changed
            .wait_timeout_while(known, PATIENCE, |known| known.door.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        let (door, thumbprint, first) = (known.door.unwrap(), known.thumbprint.clone(), known.orders == 1);
        drop(known);
        let expected = digest(&SHA256, format!("{TOKEN}.{thumbprint}").as_bytes());
        let shown = shown_certificate(door, self.domain, &[b"acme-tls/1"]).expect("the proof");
        // The extension's value is an octet string in an octet string: its bytes stand in the certificate once.
        let found = shown
            .windows(expected.as_ref().len())
            .any(|part| part == expected.as_ref());
        assert!(
            found,
            "the certificate has no acmeIdentifier that proves the name"
        );
        // To others there is nothing to show before the first certificate, and the old one afterwards.
        let others = shown_certificate(door, self.domain, &[b"http/1.1"]);
        assert!(others.is_none() == first && others != Some(shown));
        self.lock().proved = true;
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
