//! The TLS door with real handshakes.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use muster_transport::{ServerConfigSource, TlsConn, TlsDoor, TlsLimits};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::WebPkiClientVerifier,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_stream::StreamExt;
use tonic::transport::server::Connected;

/// A certificate that is its own root, and its key.
struct Own {
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Own {
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        Self {
            certificate: made.cert.der().clone(),
            key: made.signing_key.serialize_der(),
        }
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.clone()).unwrap()
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        Arc::new(roots)
    }

    /// A server that is `self` and takes clients that are `client`, or nobody in particular.
    fn server(&self, client: &Self) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let clients = WebPkiClientVerifier::builder_with_provider(client.roots(), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(clients)
            .with_single_cert(vec![self.certificate.clone()], self.key())
            .unwrap();
        Arc::new(config)
    }

    /// A client that trusts `server`, and shows itself if it `is` somebody.
    fn client(server: &Self, is: Option<&Self>) -> TlsConnector {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(server.roots());
        let config = match is {
            Some(own) => config
                .with_client_auth_cert(vec![own.certificate.clone()], own.key())
                .unwrap(),
            None => config.with_no_client_auth(),
        };
        TlsConnector::from(Arc::new(config))
    }
}

async fn open(configs: Arc<dyn ServerConfigSource>, limits: TlsLimits) -> TlsDoor {
    TlsDoor::bind("127.0.0.1:0".parse().unwrap(), configs, limits)
        .await
        .unwrap()
}

/// A frame of HTTP/2 (RFC 9113 4.1) without a stream.
fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    let mut bytes = vec![0, 0, length, kind, flags, 0, 0, 0, 0];
    bytes.extend_from_slice(payload);
    bytes
}

/// What the server reads until it will read no more.
async fn read_to_the_end(conn: &mut TlsConn) -> std::io::Error {
    let mut bytes = [0; 4096];
    loop {
        match conn.read(&mut bytes).await {
            Ok(0) => panic!("the client closed"),
            Ok(_) => {}
            Err(error) => return error,
        }
    }
}

/// Both ends of one connection.
async fn pair(door: &mut TlsDoor, connector: &TlsConnector) -> (TlsConn, TlsStream<TcpStream>) {
    let address = door.local_addr();
    let connector = connector.clone();
    let client = tokio::task::spawn(async move {
        let socket = TcpStream::connect(address).await.unwrap();
        connector
            .connect("localhost".try_into().unwrap(), socket)
            .await
            .unwrap()
    });
    let conn = door.next().await.unwrap().unwrap();
    (conn, client.await.unwrap())
}

#[tokio::test]
async fn a_peers_chain_and_address_are_known_after_the_handshake() {
    let (server, client) = (Own::new(), Own::new());
    let config = server.server(&client);
    let mut door = open(Arc::new(move || Arc::clone(&config)), TlsLimits::default()).await;
    let (conn, stream) = pair(&mut door, &Own::client(&server, Some(&client))).await;
    let peer = conn.connect_info();
    assert_eq!(peer.address, stream.get_ref().0.local_addr().unwrap());
    assert_eq!(*peer.certificates, *std::slice::from_ref(&client.certificate));
    let (conn, _stream) = pair(&mut door, &Own::client(&server, None)).await;
    assert!(conn.connect_info().certificates.is_empty());
}

#[tokio::test]
async fn the_next_connection_gets_the_newest_configuration() {
    let (first, second) = (Own::new(), Own::new());
    let current = Arc::new(Mutex::new(first.server(&first)));
    let source = Arc::clone(&current);
    let mut door = open(
        Arc::new(move || Arc::clone(&source.lock().unwrap())),
        TlsLimits::default(),
    )
    .await;
    let (mut open_one, mut stream) = pair(&mut door, &Own::client(&first, None)).await;
    *current.lock().unwrap() = second.server(&second);
    pair(&mut door, &Own::client(&second, None)).await;
    // And the one that is open lives on.
    stream.write_all(b"PRI * HTTP").await.unwrap();
    let mut bytes = [0; 10];
    open_one.read_exact(&mut bytes).await.unwrap();
}

#[tokio::test]
async fn failed_and_slow_handshakes_hold_nobody_up() {
    let (server, stranger) = (Own::new(), Own::new());
    let config = server.server(&server);
    let limits = TlsLimits {
        handshakes: 2,
        handshake: Duration::from_millis(50),
        ..TlsLimits::default()
    };
    let mut door = open(Arc::new(move || Arc::clone(&config)), limits).await;
    let mut slow = Vec::new();
    for _ in 0..6 {
        slow.push(TcpStream::connect(door.local_addr()).await.unwrap());
    }
    let mut plain = TcpStream::connect(door.local_addr()).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let address = door.local_addr();
    let mistrusting = Own::client(&stranger, None);
    let refused = tokio::task::spawn(async move {
        let socket = TcpStream::connect(address).await.unwrap();
        mistrusting
            .connect("localhost".try_into().unwrap(), socket)
            .await
            .unwrap_err()
    });
    pair(&mut door, &Own::client(&server, None)).await;
    // Nothing comes through the door while the others fail.
    let refused = tokio::select! {
        refused = refused => refused.unwrap(),
        _ = door.next() => panic!("a failed handshake came through"),
    };
    assert_eq!(refused.kind(), std::io::ErrorKind::InvalidData);
}

#[tokio::test]
async fn a_client_that_says_nothing_after_its_handshake_is_closed_and_a_cut_closes_all() {
    let server = Own::new();
    let config = server.server(&server);
    let limits = TlsLimits {
        preface: Duration::from_millis(10),
        ..TlsLimits::default()
    };
    let mut door = open(Arc::new(move || Arc::clone(&config)), limits).await;
    let (mut conn, stream) = pair(&mut door, &Own::client(&server, None)).await;
    let error = conn.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    drop(stream);
    let (mut conn, mut stream) = pair(&mut door, &Own::client(&server, None)).await;
    stream.write_all(b"P").await.unwrap();
    conn.read_u8().await.unwrap();
    door.cutter().cut();
    assert_eq!(
        conn.read_u8().await.unwrap_err().kind(),
        std::io::ErrorKind::ConnectionAborted
    );
}

#[tokio::test]
async fn past_the_bound_connections_are_closed_until_one_ends() {
    let server = Own::new();
    let config = server.server(&server);
    let limits = TlsLimits {
        connections: 1,
        ..TlsLimits::default()
    };
    let mut door = open(Arc::new(move || Arc::clone(&config)), limits).await;
    let connector = Own::client(&server, None);
    let (conn, _stream) = pair(&mut door, &connector).await;
    let mut turned_away = TcpStream::connect(door.local_addr()).await.unwrap();
    let mut byte = [0];
    let end = tokio::select! {
        end = turned_away.read(&mut byte) => end,
        _ = door.next() => panic!("one too many came through"),
    };
    assert!(matches!(end, Ok(0) | Err(_)));
    drop(conn);
    pair(&mut door, &connector).await;
}

#[tokio::test]
async fn control_frames_without_end_close_a_connection_and_answers_pay_for_them() {
    let server = Own::new();
    let config = server.server(&server);
    let mut door = open(Arc::new(move || Arc::clone(&config)), TlsLimits::default()).await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for flood in [frame(6, 0, &[0; 8]), frame(4, 0, &[]), frame(0xbe, 0, b"?")] {
        let (mut conn, mut stream) = pair(&mut door, &Own::client(&server, None)).await;
        let sender = tokio::task::spawn(async move {
            stream.write_all(preface).await.unwrap();
            // It ends when the server has closed.
            while stream.write_all(&flood.repeat(100)).await.is_ok() {}
        });
        let error = read_to_the_end(&mut conn).await;
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidData, "{error}");
        drop(conn);
        sender.await.unwrap();
    }
    // Each answer is worth the PING and the window update that clients send with it.
    let (mut conn, mut stream) = pair(&mut door, &Own::client(&server, None)).await;
    stream.write_all(preface).await.unwrap();
    conn.read_exact(&mut [0; 24]).await.unwrap();
    let (answer, ping) = (frame(0, 0, b"x"), frame(6, 0, &[0; 8]));
    for _ in 0..5_000 {
        conn.write_all(&answer).await.unwrap();
        conn.flush().await.unwrap();
        stream.read_exact(&mut vec![0; answer.len()]).await.unwrap();
        stream.write_all(&ping.repeat(2)).await.unwrap();
        conn.read_exact(&mut vec![0; 2 * ping.len()]).await.unwrap();
    }
}

#[tokio::test]
async fn a_caller_without_a_certificate_stays_a_short_time_and_one_with_it_stays() {
    let (server, client) = (Own::new(), Own::new());
    let config = server.server(&client);
    let limits = TlsLimits {
        anonymous_life: Duration::from_millis(10),
        ..TlsLimits::default()
    };
    let mut door = open(Arc::new(move || Arc::clone(&config)), limits).await;
    let (mut known, mut known_stream) = pair(&mut door, &Own::client(&server, Some(&client))).await;
    let (mut nobody, _stream) = pair(&mut door, &Own::client(&server, None)).await;
    assert_eq!(
        nobody.read_u8().await.unwrap_err().kind(),
        std::io::ErrorKind::TimedOut
    );
    known_stream.write_all(b"PRI").await.unwrap();
    known.read_exact(&mut [0; 3]).await.unwrap();
}

#[tokio::test]
async fn callers_without_a_certificate_take_no_room_from_those_who_have_one() {
    let (server, client) = (Own::new(), Own::new());
    let config = server.server(&client);
    let limits = TlsLimits {
        anonymous_per_address: 2,
        ..TlsLimits::default()
    };
    let mut door = open(Arc::new(move || Arc::clone(&config)), limits).await;
    let nobody = Own::client(&server, None);
    let _nobodies = [pair(&mut door, &nobody).await, pair(&mut door, &nobody).await];
    let (address, connector) = (door.local_addr(), nobody.clone());
    let third = tokio::task::spawn(async move {
        let socket = TcpStream::connect(address).await.unwrap();
        // In TLS 1.3 the client is done before the server has judged it.
        let mut stream = connector.connect("localhost".try_into().unwrap(), socket).await?;
        stream.read_u8().await
    });
    let turned_away = tokio::select! {
        end = third => end.unwrap(),
        _ = door.next() => panic!("one too many came through"),
    };
    turned_away.unwrap_err();
    pair(&mut door, &Own::client(&server, Some(&client))).await;
}
