//! An endpoint that gets its certificate from an ACME directory.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use muster_tests::{AcmeDirectory, Cluster, until};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::json;

use super::pair::settings;

const DOMAIN: &str = "bundles.example.org";

#[test]
fn the_endpoint_gets_a_certificate_by_acme_and_keeps_it_over_a_restart() {
    let acme = AcmeDirectory::start(DOMAIN);
    let config = format!(
        "[federation]\nallow_loopback = true\n[federation.endpoint]\nlisten = \"127.0.0.1:0\"\nprofile = \"https_web\"\n[federation.endpoint.acme]\n{}",
        acme.config()
    );
    let mut ours = Cluster::start_server_only(&settings(config));
    acme.prove_at(ours.bundle_endpoint());
    ours.server()
        .line("the certificate", |line| line.contains("shows a new certificate"));
    assert_eq!(acme.contact(), json!(["mailto:ops@example.org"]));
    let fetched = fetch(&acme, ours.bundle_endpoint()).unwrap();
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
        fetch(&acme, ours.bundle_endpoint()).is_some()
    });
    assert_eq!(acme.orders(), 1);
}

/// The endpoint's document, when it shows a certificate of the directory's for its name.
fn fetch(acme: &AcmeDirectory, endpoint: SocketAddr) -> Option<String> {
    let mut roots = RootCertStore::empty();
    let pem = std::fs::read_to_string(acme.ca_file()).unwrap();
    roots.add(muster_tests::from_pem(&pem).into()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
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
