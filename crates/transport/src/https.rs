//! Calls to other people's HTTPS APIs: a secrets manager, an object store, a cluster's API server.
//!
//! One connection a call: they are rare, and certificates and authorities may have changed since the last. No redirect is followed, no proxy asked, nothing
//! read from the environment; time and size of an answer are bounded.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use muster_pki::SecretBytes;
use rustls::client::Resumption;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const DEFAULT_PORT: u16 = 443;

/// Whom to believe and how to show oneself.
#[derive(Debug, Default)]
pub struct HttpsTls {
    /// The authorities that may vouch for the server, PEM. What is of no use for TLS is passed over, as in the system's file.
    pub authorities: Vec<u8>,
    /// A certificate chain (PEM, leaf first) and its key, for servers that want one.
    pub identity: Option<(Vec<u8>, SecretBytes)>,
    /// The name that the server's certificate must bear, where it is not the host of its address.
    pub server_name: Option<String>,
}

/// A client of one server.
#[derive(Clone)]
pub struct HttpsClient {
    host: String,
    port: u16,
    header: HeaderValue,
    name: ServerName<'static>,
    tls: Arc<ClientConfig>,
    within: Duration,
    largest: usize,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpsError {
    /// What was configured is no address of a server.
    #[error("not an address such as https://vault.example.org:8200")]
    Address,
    /// No certificate that can vouch for a server.
    #[error("no certificate among the authorities can vouch for a server")]
    NoAuthority,
    /// Not PEM.
    #[error("the client's certificate or key is not PEM")]
    Pem(#[source] pem::Error),
    /// TLS could not be set up.
    #[error("setting up TLS")]
    Tls(#[from] rustls::Error),
    /// No connection, or a server that is another.
    #[error("connecting to {host}:{port}")]
    Connect {
        /// The host.
        host: String,
        /// The port.
        port: u16,
        /// Why not.
        source: io::Error,
    },
    /// The connection broke, or what came is no HTTP.
    #[error("speaking HTTP")]
    Http(#[from] hyper::Error),
    /// The answer broke off, or is larger than it may be.
    #[error("reading the answer")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It took too long.
    #[error("no answer within {} s", .0.as_secs())]
    Late(Duration),
}

impl HttpsClient {
    /// A client of the server at `https://host[:port]`, whatever path follows. An answer may take `within`, with its connection, and have `largest` bytes.
    ///
    /// # Errors
    /// When the address or the TLS material can't be used.
    pub fn new(address: &Uri, tls: HttpsTls, within: Duration, largest: usize) -> Result<Self, HttpsError> {
        let is_https = address.scheme_str() == Some("https");
        let authority = address
            .authority()
            .filter(|authority| is_https && !authority.as_str().contains('@'));
        let authority = authority.ok_or(HttpsError::Address)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let name = tls.server_name.clone().unwrap_or_else(|| host.to_owned());
        Ok(Self {
            host: host.to_owned(),
            port: authority.port_u16().unwrap_or(DEFAULT_PORT),
            header: HeaderValue::from_str(authority.as_str()).map_err(|_| HttpsError::Address)?,
            name: ServerName::try_from(name).map_err(|_| HttpsError::Address)?,
            tls: Arc::new(tls.config()?),
            within,
            largest,
        })
    }

    /// Sends one request, whose target is a path, and gives the whole answer, whatever its status.
    ///
    /// # Errors
    /// When there is no answer, in time and within its bound.
    pub async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpsError> {
        let answer = tokio::time::timeout(self.within, self.exchange(request)).await;
        answer.unwrap_or(Err(HttpsError::Late(self.within)))
    }

    async fn exchange(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpsError> {
        let connecting = async {
            let tcp = TcpStream::connect((self.host.as_str(), self.port)).await?;
            tcp.set_nodelay(true)?;
            TlsConnector::from(Arc::clone(&self.tls))
                .connect(self.name.clone(), tcp)
                .await
        };
        let stream = connecting.await.map_err(|source| HttpsError::Connect {
            host: self.host.clone(),
            port: self.port,
            source,
        })?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let (mut parts, body) = request.into_parts();
        parts.headers.entry(HOST).or_insert_with(|| self.header.clone());
        let request = Request::from_parts(parts, Full::new(body));
        let asking = async move {
            let (parts, body) = sender.send_request(request).await?.into_parts();
            let body = Limited::new(body, self.largest).collect().await;
            let body = body.map_err(HttpsError::Body)?.to_bytes();
            Ok(Response::from_parts(parts, body))
        };
        // The connection ends when its one call is answered and the sender is gone. How it ends tells nothing that the answer does not.
        let (answer, _) = tokio::join!(asking, connection);
        answer
    }

    /// The value of the Host header, for signatures over it.
    pub fn host(&self) -> &HeaderValue {
        &self.header
    }
}

impl fmt::Debug for HttpsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpsClient({}:{})", self.host, self.port)
    }
}

impl HttpsTls {
    fn config(self) -> Result<ClientConfig, HttpsError> {
        let mut roots = RootCertStore::empty();
        let certificates = CertificateDer::pem_slice_iter(&self.authorities).filter_map(Result::ok);
        let (added, _) = roots.add_parsable_certificates(certificates);
        if added == 0 {
            return Err(HttpsError::NoAuthority);
        }
        let builder = ClientConfig::builder_with_provider(muster_pki::tls::provider())
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(roots);
        let mut config = match self.identity {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&chain).collect();
                let key = PrivateKeyDer::from_pem_slice(key.expose_secret()).map_err(HttpsError::Pem)?;
                builder.with_client_auth_cert(chain.map_err(HttpsError::Pem)?, key)?
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use rustls::ServerConfig;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    /// A server that gives `answer` to whoever speaks to it, once, and what the client was told of it.
    async fn asked(
        answer: &'static [u8],
        within: Duration,
        largest: usize,
    ) -> Result<Response<Bytes>, HttpsError> {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(muster_pki::tls::provider())
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("https://localhost:{}/x", listener.local_addr().unwrap().port());
        let serving = async {
            let (tcp, _) = listener.accept().await.unwrap();
            let mut tls = TlsAcceptor::from(Arc::new(config)).accept(tcp).await.unwrap();
            let mut asked = vec![0; 4096];
            let read = tls.read(&mut asked).await.unwrap();
            let asked = String::from_utf8_lossy(&asked[..read]).into_owned();
            assert!(
                asked.starts_with("GET /x HTTP/1.1\r\n") && asked.contains("host: localhost:"),
                "{asked}"
            );
            tls.write_all(answer).await.unwrap();
            tls.flush().await.unwrap();
            // It holds the connection until the client leaves.
            assert_eq!(tls.read(&mut [0]).await.unwrap_or(0), 0);
        };
        let tls = HttpsTls {
            authorities: cert.pem().into_bytes(),
            ..HttpsTls::default()
        };
        let client = HttpsClient::new(&address.parse().unwrap(), tls, within, largest).unwrap();
        let request = Request::get("/x").body(Bytes::new()).unwrap();
        let ((), answer) = tokio::join!(serving, client.send(request));
        answer
    }

    #[tokio::test]
    async fn an_answer_comes_whole_or_not_at_all() {
        const LONG: Duration = Duration::from_secs(60);
        let answer = asked(
            b"HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\n\r\nnone",
            LONG,
            4,
        )
        .await
        .unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.body()[..]),
            (404, &b"none"[..])
        );
        let large = asked(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nlarge", LONG, 4).await;
        assert!(matches!(large, Err(HttpsError::Body(_))), "{large:?}");
        let late = asked(
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
            Duration::from_millis(300),
            9,
        )
        .await;
        assert!(matches!(late, Err(HttpsError::Late(_))), "{late:?}");
        let nonsense = asked(b"SSH-2.0-x\r\n", LONG, 9).await;
        assert!(matches!(nonsense, Err(HttpsError::Http(_))), "{nonsense:?}");
    }

    #[test]
    fn what_is_no_https_server_is_refused_before_anything_is_sent() {
        let CertifiedKey { cert, .. } = generate_simple_self_signed(["a".to_owned()]).unwrap();
        let client = |address: &str, authorities: &[u8]| {
            let tls = HttpsTls {
                authorities: authorities.to_vec(),
                ..HttpsTls::default()
            };
            HttpsClient::new(&address.parse().unwrap(), tls, Duration::from_secs(1), 1)
        };
        for address in ["http://a", "a:443", "/x", "https://user@a"] {
            assert!(
                matches!(client(address, cert.pem().as_bytes()), Err(HttpsError::Address)),
                "{address}"
            );
        }
        assert!(matches!(
            client("https://a", b"nothing"),
            Err(HttpsError::NoAuthority)
        ));
    }
}
