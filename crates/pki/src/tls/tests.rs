use std::io::{Read, Write};

use muster_identity::{Lifetime, SpiffeId, TrustDomain, UnixTime};
use rustls::{ClientConnection, HandshakeKind, NamedGroup, ProtocolVersion, ServerConnection};

use super::*;
use crate::local_key::{KeyAlgorithm, LocalKey};
use crate::signer::Signer;
use crate::x509::{
    IssuingAuthority, RootProfile, Subject, X509Authority, X509SvidProfile, ca_subject, issue_root,
    issue_x509_svid,
};

struct Bundle(TrustDomain, Vec<X509Authority>);

impl X509BundleSource for Bundle {
    fn x509_authorities(&self, trust_domain: &TrustDomain) -> Option<&[X509Authority]> {
        (trust_domain == &self.0).then_some(&self.1)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "rustls reads the system's clock, so certificates must fit it"
)]
fn now() -> UnixTime {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970");
    UnixTime::from_secs(since.as_secs().cast_signed())
}

fn key(algorithm: KeyAlgorithm) -> Arc<LocalKey> {
    Arc::new(LocalKey::generate(algorithm).expect("a key"))
}

fn trust_domain() -> TrustDomain {
    "example.org".parse().expect("a trust domain")
}

fn root() -> IssuingAuthority {
    let lifetime = Lifetime::from_secs(3600).expect("not zero");
    let profile = RootProfile {
        trust_domain: trust_domain(),
        subject: ca_subject(),
        now: now(),
        lifetime,
    };
    issue_root(key(KeyAlgorithm::EcP256), &profile).expect("a root")
}

fn id(path: &str) -> SpiffeId {
    format!("spiffe://example.org{path}").parse().expect("an id")
}

fn svid(root: &IssuingAuthority, path: &str, algorithm: KeyAlgorithm) -> SvidResolver {
    let resolver = SvidResolver::new();
    set(&resolver, root, path, algorithm);
    resolver
}

fn set(resolver: &SvidResolver, root: &IssuingAuthority, path: &str, algorithm: KeyAlgorithm) {
    let key = key(algorithm);
    let profile = X509SvidProfile {
        id: id(path),
        public_key: key.public_key().clone(),
        dns_names: Vec::new(),
        subject: Subject::Usual,
        now: now(),
        lifetime: Lifetime::from_secs(600).expect("not zero"),
    };
    resolver
        .set(&issue_x509_svid(root, &profile).expect("issued"), key)
        .expect("its key");
}

fn bundles(root: &IssuingAuthority) -> SharedBundles<Bundle> {
    Arc::new(ArcSwap::from_pointee(Bundle(
        trust_domain(),
        vec![root.authority().clone()],
    )))
}

/// Lets the two talk until both are done or one refuses; the client's error, then the server's.
fn handshake(
    client: &Arc<ClientConfig>,
    server: &Arc<ServerConfig>,
) -> Result<(ClientConnection, ServerConnection), rustls::Error> {
    let name = "127.0.0.1".try_into().expect("an address");
    let mut client = ClientConnection::new(client.clone(), name)?;
    let mut server = ServerConnection::new(server.clone())?;
    for _ in 0..8 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).expect("into memory");
        }
        let mut wire = wire.as_slice();
        while !wire.is_empty() {
            server.read_tls(&mut wire).expect("from memory");
            server.process_new_packets()?;
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).expect("into memory");
        }
        let mut wire = wire.as_slice();
        while !wire.is_empty() {
            client.read_tls(&mut wire).expect("from memory");
            client.process_new_packets()?;
        }
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok((client, server))
}

#[test]
fn two_peers_meet_by_tls_13_with_a_hybrid_key_exchange_and_know_each_other() {
    let root = root();
    for algorithm in [KeyAlgorithm::EcP256, KeyAlgorithm::EcP384, KeyAlgorithm::Rsa2048] {
        let (server_svid, client_svid) = (
            svid(&root, "/server", algorithm),
            svid(&root, "/client", algorithm),
        );
        let any = PeerIds::MemberOf(trust_domain());
        let server = server_config(bundles(&root), any, ClientAuth::Required, server_svid).expect("a config");
        let only = PeerIds::Exactly(id("/server"));
        let client = client_config(bundles(&root), only, Some(client_svid)).expect("a config");
        let (mut client, mut server) = handshake(&client, &server).expect("a handshake");
        assert_eq!(client.protocol_version(), Some(ProtocolVersion::TLSv1_3));
        assert_eq!(server.alpn_protocol(), Some(ALPN));
        let group = client.negotiated_key_exchange_group().map(|group| group.name());
        assert_eq!(group, Some(NamedGroup::X25519MLKEM768));
        let peer = peer_svid(server.peer_certificates())
            .expect("an SVID")
            .expect("shown");
        assert_eq!(peer.id(), &id("/client"));
        client.writer().write_all(b"hello").expect("into memory");
        let mut wire = Vec::new();
        client.write_tls(&mut wire).expect("into memory");
        server.read_tls(&mut wire.as_slice()).expect("from memory");
        server.process_new_packets().expect("good records");
        let mut text = [0; 5];
        server.reader().read_exact(&mut text).expect("five bytes");
        assert_eq!(&text, b"hello");
    }
}

#[test]
fn a_session_is_never_resumed() {
    let root = root();
    let any = PeerIds::MemberOf(trust_domain());
    let server = server_config(
        bundles(&root),
        any.clone(),
        ClientAuth::Optional,
        svid(&root, "/s", KeyAlgorithm::EcP256),
    );
    let server = server.expect("a config");
    let client = client_config(bundles(&root), any, None).expect("a config");
    for _ in 0..3 {
        let (client, server) = handshake(&client, &server).expect("a handshake");
        assert_eq!(client.handshake_kind(), Some(HandshakeKind::Full));
        assert!(peer_svid(server.peer_certificates()).expect("nothing").is_none());
    }
}

#[test]
fn a_caller_without_a_certificate_is_refused_where_one_is_required() {
    let root = root();
    let any = PeerIds::Any;
    let server = server_config(
        bundles(&root),
        any.clone(),
        ClientAuth::Required,
        svid(&root, "/s", KeyAlgorithm::EcP256),
    );
    let client = client_config(bundles(&root), any, None).expect("a config");
    assert!(matches!(
        handshake(&client, &server.expect("a config")),
        Err(rustls::Error::NoCertificatesPresented)
    ));
}

#[test]
fn somebody_else_is_refused_and_named() {
    let root = root();
    let server = server_config(
        bundles(&root),
        PeerIds::Any,
        ClientAuth::Optional,
        svid(&root, "/s", KeyAlgorithm::EcP256),
    );
    let client = client_config(bundles(&root), PeerIds::Exactly(id("/other")), None).expect("a config");
    let error = handshake(&client, &server.expect("a config"))
        .expect_err("another")
        .to_string();
    assert!(error.contains("spiffe://example.org/s"), "{error}");
}

#[test]
fn a_swapped_bundle_and_a_swapped_svid_count_from_the_next_handshake_on() {
    let (old, new) = (root(), root());
    let shown = svid(&old, "/s", KeyAlgorithm::EcP256);
    let server =
        server_config(bundles(&old), PeerIds::Any, ClientAuth::Optional, shown.clone()).expect("a config");
    let trusted = bundles(&old);
    let client = client_config(trusted.clone(), PeerIds::Any, None).expect("a config");
    handshake(&client, &server).expect("the old authority is trusted");
    trusted.store(Arc::new(Bundle(trust_domain(), vec![new.authority().clone()])));
    let refused = handshake(&client, &server).expect_err("the old authority is not trusted any more");
    assert_eq!(
        refused,
        rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer)
    );
    set(&shown, &new, "/s", KeyAlgorithm::EcP256);
    handshake(&client, &server).expect("the new authority is trusted");
    shown.clear();
    handshake(&client, &server).expect_err("nothing to show");
}

#[test]
fn a_key_that_is_not_the_svids_is_not_taken() {
    let root = root();
    let resolver = SvidResolver::new();
    let key = key(KeyAlgorithm::EcP256);
    let other = root.authority().public_key().clone();
    let profile = X509SvidProfile {
        id: id("/s"),
        public_key: other,
        dns_names: Vec::new(),
        subject: Subject::Usual,
        now: now(),
        lifetime: Lifetime::from_secs(600).expect("not zero"),
    };
    let svid = issue_x509_svid(&root, &profile).expect("issued");
    assert_eq!(resolver.set(&svid, key), Err(SvidResolverError));
    assert_eq!(format!("{resolver:?}"), "SvidResolver(empty)");
}
