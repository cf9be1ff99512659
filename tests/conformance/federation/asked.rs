use std::{
    io::{self, Read as _, Write as _},
    net::TcpStream,
    sync::Arc,
};

use muster_pki::{
    bundle::Bundle,
    tls::{ClientAuth, PeerIds, PeerVerifier, provider},
};
use muster_tests::Cluster;

/// What a bundle endpoint answered.
pub(super) struct Asked {
    pub(super) head: String,
    pub(super) body: String,
}

/// Asks a server's endpoint, with more headers; it must prove to be of its trust domain by `held`.
pub(super) fn ask(cluster: &Cluster, held: &Bundle, more: &str) -> io::Result<Asked> {
    let bundles = Arc::new(arc_swap::ArcSwap::from_pointee(held.clone()));
    let provider = provider();
    let verifier = PeerVerifier::new(bundles, PeerIds::Any, ClientAuth::Required, &provider);
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    let tls = rustls::ClientConnection::new(Arc::new(config), "127.0.0.1".try_into().unwrap()).unwrap();
    let mut stream = rustls::StreamOwned::new(tls, TcpStream::connect(cluster.bundle_endpoint())?);
    let request = format!("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{more}\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    // However the connection ends: what counts is whether there is an answer.
    stream.read_to_end(&mut answer).ok();
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::InvalidData)?;
    Ok(Asked {
        head: head.to_owned(),
        body: body.to_owned(),
    })
}
