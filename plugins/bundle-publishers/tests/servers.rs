//! Both HTTPS publishers against a server on loopback that takes objects as an object store does.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use aws_lc_rs::digest;
use http::Uri;
use muster_bundle_publishers::{HttpIdentity, HttpPublisher, S3Publisher, S3Target};
use muster_pki::bundle::Bundle;
use muster_plugin_api::{BundleForm, BundlePublisher, PublishError, conformance};
use muster_runtime::SystemClock;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use rustls::version::TLS13;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What the server does with a request that it has read.
type Judge = fn(&Asked) -> &'static str;

#[derive(Default)]
struct Asked {
    line: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

struct Store {
    address: String,
    authorities: PathBuf,
    objects: Arc<Mutex<BTreeMap<String, String>>>,
    dir: TempDir,
}

impl Store {
    async fn start(judge: Judge) -> Self {
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
        let address = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let dir = tempfile::tempdir().unwrap();
        let authorities = dir.path().join("ca.pem");
        std::fs::write(&authorities, cert.pem()).unwrap();
        let objects = Arc::<Mutex<BTreeMap<String, String>>>::default();
        let kept = Arc::clone(&objects);
        let serving = async move {
            let acceptor = TlsAcceptor::from(Arc::new(config));
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let Ok(tls) = acceptor.accept(tcp).await else {
                    continue;
                };
                let mut stream = BufReader::new(tls);
                let asked = read(&mut stream).await;
                let status = judge(&asked);
                if status.starts_with('2') {
                    let path = asked.line.split(' ').nth(1).unwrap().to_owned();
                    let text = String::from_utf8(asked.body).unwrap();
                    kept.lock().unwrap().insert(path, text);
                }
                let answer = format!(
                    "HTTP/1.1 {status}\r\nlocation: https://localhost/else\r\ncontent-length: 7\r\n\r\nbecause"
                );
                stream.get_mut().write_all(answer.as_bytes()).await.unwrap();
                stream.get_mut().shutdown().await.ok();
            }
        };
        // It ends with the runtime of the test that started it.
        drop(tokio::task::spawn_local(serving));
        Self {
            address,
            authorities,
            objects,
            dir,
        }
    }

    fn url(&self, path: &str) -> Uri {
        format!("{}{path}", self.address).parse().unwrap()
    }

    fn object(&self, path: &str) -> String {
        self.objects
            .lock()
            .unwrap()
            .get(path)
            .cloned()
            .unwrap_or_default()
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn bucket(&self, access_key: &Path) -> S3Publisher {
        let target = S3Target {
            endpoint: self.url("").into(),
            bucket: "trust".into(),
            object: "example.org/bundle.json".into(),
            region: "eu-west-1".into(),
            access_key: access_key.to_owned(),
            authorities: self.authorities.clone(),
        };
        S3Publisher::new(target, BundleForm::Spiffe, Arc::new(SystemClock)).unwrap()
    }
}

async fn read(stream: &mut (impl tokio::io::AsyncBufRead + Unpin)) -> Asked {
    let mut asked = Asked::default();
    let mut line = String::new();
    stream.read_line(&mut line).await.unwrap();
    asked.line = line.trim().to_owned();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        let Some((name, value)) = line.trim().split_once(": ") else {
            break;
        };
        asked.headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let length = asked.headers["content-length"].parse().unwrap();
    asked.body.resize(length, 0);
    stream.read_exact(&mut asked.body).await.unwrap();
    asked
}

fn bearer(asked: &Asked) -> &'static str {
    match asked.headers.get("authorization").map(String::as_str) {
        Some("Bearer letmein") => "204 No Content",
        _ => "403 Forbidden",
    }
}

/// As much of an object store's check as can be made without the code under test: the body is what was signed, and by whom.
fn object_store(asked: &Asked) -> &'static str {
    let hash = digest::digest(&digest::SHA256, &asked.body);
    let hash: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let authorization = &asked.headers["authorization"];
    let is_signed = authorization.starts_with("AWS4-HMAC-SHA256 Credential=KEY/")
        && authorization.contains("/eu-west-1/s3/aws4_request, SignedHeaders=content-type;host;x-amz-content-sha256;x-amz-date, Signature=");
    match asked.headers["x-amz-content-sha256"] == hash && is_signed {
        true => "200 OK",
        false => "403 Forbidden",
    }
}

fn run<F: Future<Output = ()>>(story: F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, story);
}

#[test]
fn a_server_that_takes_a_put_has_the_bundle() {
    run(async {
        let store = Store::start(bearer).await;
        let secret = store.file("authorization", "Bearer letmein\n");
        let identity = Some(HttpIdentity::Authorization(secret));
        let publisher = HttpPublisher::new(
            store.url("/bundles/a?x=1").into(),
            BundleForm::Jwks,
            store.authorities.clone(),
            identity,
        );
        let found = || async { store.object("/bundles/a?x=1") };
        conformance::bundle_publisher(&publisher, found, BundleForm::Jwks).await;
    });
}

#[test]
fn a_bucket_has_the_bundle() {
    run(async {
        let store = Store::start(object_store).await;
        let publisher = store.bucket(&store.file("key", "KEY\nsecret\n"));
        let found = || async { store.object("/trust/example.org/bundle.json") };
        conformance::bundle_publisher(&publisher, found, BundleForm::Spiffe).await;
    });
}

#[test]
fn a_refusal_a_redirect_and_a_failure_are_told_apart_and_no_secret_is_in_them() {
    run(async {
        let bundle = Bundle::new("example.org".parse().unwrap());
        for (judge, is_refused) in [
            ((|_| "403 Forbidden") as Judge, true),
            (|_| "302 Found", true),
            (|_| "503 Slow Down", false),
        ] {
            let store = Store::start(judge).await;
            let publisher = store.bucket(&store.file("key", "KEY\nverysecret\n"));
            let error = publisher.publish(&bundle).await.unwrap_err();
            let refused = matches!(error, PublishError::Refused { .. });
            assert_eq!(refused, is_refused, "{error:?}");
            assert!(format!("{error:?}").contains("because") && !format!("{error:?}").contains("verysecret"));
        }
        let store = Store::start(object_store).await;
        let error = store
            .bucket(&store.file("key", "one line"))
            .publish(&bundle)
            .await
            .unwrap_err();
        assert!(matches!(error, PublishError::Unusable { .. }), "{error:?}");
    });
}

#[test]
fn a_server_that_nobody_vouches_for_gets_nothing() {
    run(async {
        let (store, other) = (Store::start(bearer).await, Store::start(bearer).await);
        let publisher = HttpPublisher::new(
            store.url("/a").into(),
            BundleForm::Pem,
            other.authorities.clone(),
            Some(HttpIdentity::Authorization(
                store.file("authorization", "Bearer letmein"),
            )),
        );
        let bundle = Bundle::new("example.org".parse().unwrap());
        let error = publisher.publish(&bundle).await.unwrap_err();
        assert!(matches!(error, PublishError::Unavailable { .. }), "{error:?}");
        assert_eq!(store.objects.lock().unwrap().len(), 0);
    });
}
