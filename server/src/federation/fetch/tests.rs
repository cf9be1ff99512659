use std::cell::Cell;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use muster_identity::{Lifetime, UnixTime};
use muster_pki::x509::{
    IssuingAuthority, RootProfile, Subject, X509Authority, X509SvidProfile, ca_subject, issue_root,
    issue_x509_svid,
};
use muster_pki::{KeyAlgorithm, LocalKey, Signer};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::web::web_provider;

const LOOPBACK: AddressRule = AddressRule { allow_loopback: true };
const DOCUMENT: &str = r#"{"keys":[],"spiffe_sequence":7}"#;

fn now() -> UnixTime {
    use muster_runtime::Clock as _;
    muster_runtime::SystemClock.now()
}

/// A certificate authority of the Web PKI.
struct Web(CertifiedIssuer<'static, KeyPair>);

impl Web {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        Arc::new(roots)
    }

    fn server(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Arc<ServerConfig> {
        let (chain, key) = self.leaf(name, change);
        config(chain, key, None)
    }

    fn leaf(
        &self,
        name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let private = PrivatePkcs8KeyDer::from(key.serialize_der());
        (vec![certificate.der().clone()], private.into())
    }
}

fn config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
) -> Arc<ServerConfig> {
    let builder = ServerConfig::builder_with_provider(web_provider())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .unwrap();
    let config = match clients {
        None => builder.with_no_client_auth().with_single_cert(chain, key),
        Some(clients) => builder
            .with_client_cert_verifier(clients)
            .with_single_cert(chain, key),
    };
    Arc::new(config.unwrap())
}

/// A SPIFFE trust domain.
struct Domain(IssuingAuthority);

impl Domain {
    fn new(name: &str) -> Self {
        let profile = RootProfile {
            trust_domain: name.parse().unwrap(),
            subject: ca_subject(),
            now: now(),
            lifetime: Lifetime::from_secs(3_600).unwrap(),
        };
        let key = Arc::new(LocalKey::generate(KeyAlgorithm::EcP256).unwrap());
        Self(issue_root(key, &profile).unwrap())
    }

    fn bundle(&self, name: &str) -> Arc<Bundle> {
        let mut bundle = Bundle::new(name.parse().unwrap());
        let authority: X509Authority = self.0.authority().clone();
        bundle.put_x509_authority(authority);
        Arc::new(bundle)
    }

    fn server(&self, id: &str) -> Arc<ServerConfig> {
        let key = LocalKey::generate(KeyAlgorithm::EcP256).unwrap();
        let profile = X509SvidProfile {
            id: id.parse().unwrap(),
            public_key: key.public_key().clone(),
            dns_names: Vec::new(),
            subject: Subject::Usual,
            now: now(),
            lifetime: Lifetime::from_secs(600).unwrap(),
        };
        let svid = issue_x509_svid(&self.0, &profile).unwrap();
        let private = PrivatePkcs8KeyDer::from(key.to_pkcs8().unwrap().expose_secret().to_vec());
        config(svid.chain().to_vec(), private.into(), None)
    }
}

/// What an endpoint answers to a request, by its head.
enum Reply {
    /// These bytes.
    Text(String),
    /// A head, and then as much as anybody takes.
    Endless(&'static str),
    /// A head, and then a byte from time to time.
    Drip(&'static str),
}

fn ok(body: &str) -> Reply {
    Reply::Text(format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    ))
}

fn redirect(status: u16, location: &str) -> Reply {
    Reply::Text(format!(
        "HTTP/1.1 {status} Moved\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n"
    ))
}

struct Endpoint {
    listener: TcpListener,
    url: EndpointUrl,
    connections: Cell<usize>,
}

impl Endpoint {
    async fn bind() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = url(listener.local_addr().unwrap());
        Self {
            listener,
            url,
            connections: Cell::new(0),
        }
    }

    /// Serves one connection after the other while `asking` runs.
    async fn while_asking<T>(
        &self,
        tls: Option<Arc<ServerConfig>>,
        reply: impl Fn(&str) -> Reply,
        asking: impl Future<Output = T>,
    ) -> T {
        tokio::select! {
            asked = asking => asked,
            never = self.serve(tls, reply) => match never {},
        }
    }

    async fn serve(
        &self,
        tls: Option<Arc<ServerConfig>>,
        reply: impl Fn(&str) -> Reply,
    ) -> std::convert::Infallible {
        loop {
            let (mut tcp, _) = self.listener.accept().await.unwrap();
            self.connections.set(self.connections.get() + 1);
            match &tls {
                // As a server of plain HTTP answers to a hello of TLS.
                None => drop(tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await),
                Some(tls) => {
                    if let Ok(stream) = TlsAcceptor::from(Arc::clone(tls)).accept(tcp).await {
                        talk(stream, &reply).await;
                    }
                }
            }
        }
    }
}

async fn talk(mut stream: impl tokio::io::AsyncRead + AsyncWrite + Unpin, reply: &impl Fn(&str) -> Reply) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && head.len() < 10_000 {
        match stream.read(&mut byte).await {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    match reply(&String::from_utf8_lossy(&head)) {
        Reply::Text(text) => {
            stream.write_all(text.as_bytes()).await.ok();
            stream.shutdown().await.ok();
        }
        Reply::Endless(head) => {
            stream.write_all(head.as_bytes()).await.ok();
            while stream.write_all(&[b' '; 16 << 10]).await.is_ok() {}
        }
        Reply::Drip(head) => {
            stream.write_all(head.as_bytes()).await.ok();
            while stream.write_all(b" ").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

fn url(address: SocketAddr) -> EndpointUrl {
    format!("https://{address}/").parse().unwrap()
}

fn fetcher(rule: AddressRule, roots: Arc<RootCertStore>) -> Fetcher {
    Fetcher {
        longest: Duration::from_secs(5),
        ..Fetcher::new(rule, roots, "a.example".parse().unwrap())
    }
}

async fn fetch(fetcher: &Fetcher, url: &EndpointUrl, by: &Authentication) -> Result<Bytes, FetchError> {
    match fetcher.fetch(url, by, &Patience::default()).await? {
        Fetched::Document { body, .. } => Ok(body),
        Fetched::Unchanged => panic!("nobody waited"),
    }
}

/// What came of asking an endpoint of the Web PKI that answers so.
async fn asked(reply: impl Fn(&str) -> Reply) -> Result<Bytes, FetchError> {
    let (web, endpoint) = (Web::new(), Endpoint::bind().await);
    let fetcher = fetcher(LOOPBACK, web.roots());
    let asking = fetch(&fetcher, &endpoint.url, &Authentication::Web);
    endpoint
        .while_asking(Some(web.server("127.0.0.1", |_| {})), reply, asking)
        .await
}

#[tokio::test]
async fn a_document_is_fetched_and_nothing_that_tells_who_asks_is_sent() {
    let body = asked(|head| {
        assert!(head.starts_with("GET / HTTP/1.1\r\n"), "{head}");
        let head = head.to_lowercase();
        assert!(
            !head.contains("authorization") && !head.contains("cookie") && !head.contains("accept-encoding")
        );
        ok(DOCUMENT)
    });
    assert_eq!(body.await.unwrap(), DOCUMENT.as_bytes());
}

#[tokio::test]
async fn whoever_is_not_the_host_of_the_web_pki_is_not_believed() {
    let (web, other, endpoint) = (Web::new(), Web::new(), Endpoint::bind().await);
    let expired = |params: &mut CertificateParams| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    };
    let cases = [
        ("another authority's", Some(other.server("127.0.0.1", |_| {}))),
        ("another name", Some(web.server("b.example", |_| {}))),
        ("expired", Some(web.server("127.0.0.1", expired))),
        (
            "an X.509-SVID",
            Some(Domain::new("b.example").server("spiffe://b.example/spire/server")),
        ),
        ("no TLS", None),
    ];
    let fetcher = fetcher(LOOPBACK, web.roots());
    for (what, tls) in cases {
        let asking = fetch(&fetcher, &endpoint.url, &Authentication::Web);
        let refused = endpoint
            .while_asking(tls, |_| ok(DOCUMENT), asking)
            .await
            .unwrap_err();
        assert!(matches!(refused, FetchError::Tls { .. }), "{what}: {refused:?}");
    }
}

#[tokio::test]
async fn whoever_is_not_the_endpoints_spiffe_id_is_not_believed() {
    let (domain, other, web) = (Domain::new("b.example"), Domain::new("b.example"), Web::new());
    let endpoint = Endpoint::bind().await;
    let by = Authentication::Spiffe {
        id: "spiffe://b.example/spire/server".parse().unwrap(),
        bundle: domain.bundle("b.example"),
    };
    let fetcher = fetcher(LOOPBACK, web.roots());
    let right = domain.server("spiffe://b.example/spire/server");
    let asking = fetch(&fetcher, &endpoint.url, &by);
    endpoint
        .while_asking(Some(right), |_| ok(DOCUMENT), asking)
        .await
        .unwrap();
    let cases = [
        (
            "another ID of the trust domain",
            domain.server("spiffe://b.example/other"),
        ),
        (
            "the same ID by another authority",
            other.server("spiffe://b.example/spire/server"),
        ),
        // There is no way from one profile to the other.
        ("a certificate of the Web PKI", web.server("127.0.0.1", |_| {})),
    ];
    for (what, tls) in cases {
        let asking = fetch(&fetcher, &endpoint.url, &by);
        let refused = endpoint
            .while_asking(Some(tls), |_| ok(DOCUMENT), asking)
            .await
            .unwrap_err();
        assert!(matches!(refused, FetchError::Tls { .. }), "{what}: {refused:?}");
    }
}

#[tokio::test]
async fn an_endpoint_that_asks_who_asks_is_reported_as_that() {
    let (web, endpoint) = (Web::new(), Endpoint::bind().await);
    let clients = WebPkiClientVerifier::builder_with_provider(web.roots(), web_provider());
    let (chain, key) = web.leaf("127.0.0.1", |_| {});
    let optional = config(chain, key, Some(clients.allow_unauthenticated().build().unwrap()));
    let fetcher = fetcher(LOOPBACK, web.roots());
    let asking = fetch(&fetcher, &endpoint.url, &Authentication::Web);
    let refused = endpoint
        .while_asking(Some(optional), |_| panic!("something was sent"), asking)
        .await;
    assert!(
        matches!(refused, Err(FetchError::AsksForCertificate)),
        "{refused:?}"
    );
    let refused = asked(|_| Reply::Text("HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n".into())).await;
    assert!(refused.unwrap_err().to_string().contains("credentials"));
}

#[tokio::test]
async fn only_status_200_without_encoding_is_a_document() {
    let with = |head: &str| {
        let text = format!("{head}content-length: {}\r\n\r\n{DOCUMENT}", DOCUMENT.len());
        asked(move |_| Reply::Text(text.clone()))
    };
    for status in [201, 204, 304, 403, 500] {
        let refused = with(&format!("HTTP/1.1 {status} X\r\n")).await;
        assert!(
            matches!(refused, Err(FetchError::Status(got)) if got == status),
            "{status}: {refused:?}"
        );
    }
    let refused = with("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n").await;
    assert!(matches!(refused, Err(FetchError::Encoded)), "{refused:?}");
}

#[tokio::test]
async fn what_is_too_large_or_too_slow_is_given_up() {
    for head in [
        "HTTP/1.1 200 OK\r\ncontent-length: 104857600\r\n\r\n",
        "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n",
    ] {
        let refused = asked(|_| Reply::Endless(head)).await;
        assert!(matches!(refused, Err(FetchError::TooLarge)), "{refused:?}");
    }
    let (web, endpoint) = (Web::new(), Endpoint::bind().await);
    let fetcher = Fetcher {
        longest: Duration::from_millis(400),
        ..fetcher(LOOPBACK, web.roots())
    };
    for head in [
        "HTTP/1.1 200 OK\r\nx:",
        "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n",
    ] {
        let asking = fetch(&fetcher, &endpoint.url, &Authentication::Web);
        let tls = Some(web.server("127.0.0.1", |_| {}));
        let refused = endpoint.while_asking(tls, |_| Reply::Drip(head), asking).await;
        assert!(matches!(refused, Err(FetchError::Slow(_))), "{refused:?}");
    }
}

#[tokio::test]
async fn a_head_without_end_is_given_up() {
    let refused = asked(|_| Reply::Endless("HTTP/1.1 200 OK\r\nx: ")).await;
    assert!(matches!(refused, Err(FetchError::Http(_))), "{refused:?}");
}

#[tokio::test]
async fn redirects_are_followed_three_times_and_only_to_endpoints() {
    for status in [301, 302, 303, 307, 308] {
        let body = asked(move |head| match head.starts_with("GET / ") {
            true => redirect(status, "/elsewhere?x=1"),
            false => ok(DOCUMENT),
        });
        assert!(body.await.is_ok(), "{status}");
    }
    let steps = Cell::new(0);
    let refused = asked(|_| {
        steps.set(steps.get() + 1);
        redirect(302, "/again")
    });
    assert!(matches!(refused.await, Err(FetchError::Redirects)));
    assert_eq!(steps.get(), 4);
    for target in [
        "http://127.0.0.1/",
        "file:///etc/passwd",
        "https://user@b.example/",
        "//b.example/",
        "x",
    ] {
        let refused = asked(|_| redirect(302, target)).await;
        assert!(
            matches!(refused, Err(FetchError::Target(_))),
            "{target}: {refused:?}"
        );
    }
    let bare = asked(|_| Reply::Text("HTTP/1.1 302 X\r\ncontent-length: 0\r\n\r\n".into())).await;
    assert!(matches!(bare, Err(FetchError::NoTarget)));
}

#[tokio::test]
async fn no_url_and_no_redirect_leads_inward() {
    for target in [
        "https://169.254.169.254/latest/meta-data/",
        "https://[::ffff:169.254.169.254]/",
        "https://[fe80::1]/",
        "https://0.0.0.0/",
    ] {
        let refused = asked(|_| redirect(302, target)).await;
        assert!(
            matches!(refused, Err(FetchError::Address(_))),
            "{target}: {refused:?}"
        );
    }
    // Nor to this machine, by address or by name, unless it is allowed: not a packet goes there.
    let (web, endpoint) = (Web::new(), Endpoint::bind().await);
    let fetcher = fetcher(AddressRule::default(), web.roots());
    let port = endpoint.url.port();
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"] {
        let url: EndpointUrl = format!("https://{host}:{port}/").parse().unwrap();
        let asking = fetch(&fetcher, &url, &Authentication::Web);
        let refused = endpoint.while_asking(None, |_| ok(DOCUMENT), asking).await;
        assert!(
            matches!(refused, Err(FetchError::Address(_))),
            "{host}: {refused:?}"
        );
    }
    assert_eq!(endpoint.connections.get(), 0);
    assert!(IpAddr::V4(Ipv4Addr::LOCALHOST).is_loopback());
}

#[tokio::test]
async fn a_redirect_must_show_the_same_spiffe_id() {
    let domain = Domain::new("b.example");
    let (first, second) = (Endpoint::bind().await, Endpoint::bind().await);
    let by = Authentication::Spiffe {
        id: "spiffe://b.example/spire/server".parse().unwrap(),
        bundle: domain.bundle("b.example"),
    };
    let fetcher = fetcher(LOOPBACK, Arc::new(RootCertStore::empty()));
    let target = second.url.to_string();
    for (id, followed) in [
        ("spiffe://b.example/spire/server", true),
        ("spiffe://b.example/other", false),
    ] {
        let asking = fetch(&fetcher, &first.url, &by);
        let moving = first.while_asking(
            Some(domain.server("spiffe://b.example/spire/server")),
            |_| redirect(302, &target),
            asking,
        );
        let came = Box::pin(second.while_asking(Some(domain.server(id)), |_| ok(DOCUMENT), moving)).await;
        assert_eq!(came.is_ok(), followed, "{id}: {came:?}");
    }
}

#[tokio::test]
async fn an_endpoint_that_can_wait_says_so_and_is_shown_the_tag() {
    let (web, endpoint) = (Web::new(), Endpoint::bind().await);
    let fetcher = fetcher(LOOPBACK, web.roots());
    let reply = |head: &str| {
        let head = head.to_lowercase();
        assert!(head.contains("prefer: wait=50\r\n"), "{head}");
        match head.contains("if-none-match: \"x\"\r\n") {
            true => Reply::Text("HTTP/1.1 304 Not Modified\r\n\r\n".into()),
            false => Reply::Text(format!(
                "HTTP/1.1 200 OK\r\netag: \"x\"\r\npreference-applied: wait=50\r\ncontent-length: {}\r\n\r\n{DOCUMENT}",
                DOCUMENT.len()
            )),
        }
    };
    let hold = Some(Duration::from_secs(50));
    let asking = async {
        let patience = Patience { tag: None, hold };
        let Ok(Fetched::Document { tag, pushes, .. }) = fetcher
            .fetch(&endpoint.url, &Authentication::Web, &patience)
            .await
        else {
            panic!("no document");
        };
        assert!(pushes);
        let patience = Patience { tag, hold };
        fetcher
            .fetch(&endpoint.url, &Authentication::Web, &patience)
            .await
    };
    let tls = Some(web.server("127.0.0.1", |_| {}));
    let came = endpoint.while_asking(tls, reply, asking).await;
    assert!(matches!(came, Ok(Fetched::Unchanged)), "{came:?}");
}

#[tokio::test]
async fn an_authority_that_is_thrown_out_while_the_endpoint_is_asked_does_not_count_for_the_answer() {
    let (web, other, endpoint) = (Web::new(), Web::new(), Endpoint::bind().await);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("roots.pem");
    let replace = |authorities: &[&Web]| {
        let pem: String = authorities.iter().map(|web| web.0.pem()).collect();
        let new = folder.path().join("new");
        std::fs::write(&new, pem).unwrap();
        std::fs::rename(&new, &path).unwrap();
    };
    for (before, meanwhile, counts) in [
        (&[&web][..], &[&web, &other][..], true),
        (&[&web, &other], &[&web], false),
        (&[&web], &[&other], false),
    ] {
        replace(before);
        let fetcher = Fetcher::new(
            LOOPBACK,
            WebRoots::open(Some(&path)).unwrap(),
            "a.example".parse().unwrap(),
        );
        let reply = |_: &str| {
            replace(meanwhile);
            ok(DOCUMENT)
        };
        let asking = fetch(&fetcher, &endpoint.url, &Authentication::Web);
        let tls = Some(web.server("127.0.0.1", |_| {}));
        let came = endpoint.while_asking(tls, reply, asking).await;
        match counts {
            true => assert!(came.is_ok(), "{came:?}"),
            false => assert!(matches!(came, Err(FetchError::Distrusted)), "{came:?}"),
        }
    }
}
