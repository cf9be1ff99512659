//! What honest clients see.

use std::{os::unix::fs::FileTypeExt, time::Duration};

use muster_transport::{Look, Refusal, UdsLimits};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::oneshot,
};

use crate::service::{Serving, ask, dial, try_dial};

#[tokio::test]
async fn an_unchanged_client_is_present_at_its_first_call() {
    let serving = Serving::start();
    let channel = dial(&serving.socket()).await;
    let uid = nix::unistd::Uid::effective();
    let expected = format!("pid={} uid={uid} standing=Native", std::process::id());
    for _ in 0..3 {
        assert_eq!(ask(&channel).await.unwrap(), expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_legitimate_connection_of_a_thousand_is_refused() {
    let mut serving = Serving::start();
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let socket = serving.socket();
        clients.spawn(async move {
            for _ in 0..50 {
                ask(&dial(&socket).await).await.unwrap();
            }
        });
    }
    clients.join_all().await;
    let mut connections = 0;
    while serving.connections.try_recv().is_ok() {
        connections += 1;
    }
    assert_eq!(connections, 1_000);
}

#[tokio::test]
async fn the_authorities_that_grpc_clients_send_are_all_served() {
    let serving = Serving::start();
    for authority in [
        "localhost",
        "%2Ftmp%2Fapi.sock",
        "/tmp/api.sock",
        "unix:%2Ftmp",
        "a b",
        "\u{e9}",
    ] {
        for huffman in [false, true] {
            let mut client = UnixStream::connect(serving.socket()).await.unwrap();
            client.write_all(&request(authority, huffman)).await.unwrap();
            let answer = loop {
                let frame = read_frame(&mut client).await;
                match (frame[3], frame[4] & 1) {
                    (6, 0) => client
                        .write_all(&[&frame[..4], &[1], &frame[5..]].concat())
                        .await
                        .unwrap(),
                    (0, _) | (3 | 7, _) => break frame,
                    _ => {}
                }
            };
            assert_eq!(answer[3], 0, "{authority:?} coded {huffman}: {answer:x?}");
        }
    }
}

#[tokio::test]
async fn a_real_encoders_headers_reach_the_handler_as_they_were() {
    // h2 decodes what h2 encoded after the door's repair: all but the authority must be the same.
    let serving = Serving::start();
    let socket = UnixStream::connect(serving.socket()).await.unwrap();
    let (mut client, connection) = h2::client::handshake(socket).await.unwrap();
    let connection = tokio::task::spawn(connection);
    for (number, authority) in ["localhost", "muster.example:8443", "[::1]:80", "localhost"]
        .into_iter()
        .enumerate()
    {
        let request = http::Request::post(format!("http://{authority}/muster.test.Who/Ask"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("x-long", "y".repeat(200 + number))
            .body(())
            .unwrap();
        client = client.ready().await.unwrap();
        let (answer, mut body) = client.send_request(request, false).unwrap();
        body.send_data(vec![0; 5].into(), true).unwrap();
        let answer = answer.await.unwrap();
        assert_eq!(answer.status(), 200);
        assert!(answer.headers().get("grpc-status").is_none(), "{answer:?}");
    }
    drop(client);
    connection.await.unwrap().unwrap();
}

#[tokio::test]
async fn calls_side_by_side_share_one_proof() {
    let serving = Serving::start();
    let channel = dial(&serving.socket()).await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let channel = channel.clone();
        calls.spawn(async move { ask(&channel).await });
    }
    assert!(calls.join_all().await.into_iter().all(|answer| answer.is_ok()));
}

#[tokio::test]
async fn presence_is_proven_anew_in_the_middle_of_calls() {
    let mut serving = Serving::start();
    let channel = dial(&serving.socket()).await;
    ask(&channel).await.unwrap();
    let presence = serving.connections.recv().await.unwrap();
    let mut calls = tokio::task::JoinSet::new();
    for round in 0..200 {
        let channel = channel.clone();
        calls.spawn(async move { ask(&channel).await });
        if round % 4 == 0 {
            presence.renew(Duration::from_secs(5)).await.unwrap();
        }
    }
    assert!(calls.join_all().await.into_iter().all(|answer| answer.is_ok()));
    // And on a connection on which nothing else moves.
    let evidence = presence.renew(Duration::from_secs(5)).await.unwrap();
    presence.still(&evidence, Look::Light).unwrap();
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_unavailable_and_present_once_it_reads() {
    let mut serving = Serving::start();
    let mut client = UnixStream::connect(serving.socket()).await.unwrap();
    client
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .unwrap();
    let presence = serving.connections.recv().await.unwrap();
    let refused = presence.proven(Duration::from_millis(1)).await.unwrap_err();
    assert!(matches!(refused, Refusal::Silent { .. }) && refused.is_temporary());
    let ping = read_ping(&mut client).await;
    client.write_all(&ping).await.unwrap();
    presence.proven(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test]
async fn an_answer_with_other_bytes_proves_nothing() {
    let mut serving = Serving::start();
    let mut client = UnixStream::connect(serving.socket()).await.unwrap();
    client
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .unwrap();
    let presence = serving.connections.recv().await.unwrap();
    let ping = read_ping(&mut client).await;
    for bit in 0..64 {
        let mut wrong = ping.clone();
        wrong[9 + bit / 8] ^= 1 << (bit % 8);
        client.write_all(&wrong).await.unwrap();
    }
    // A PING of the client's own comes back only after all of these were read.
    let mut own = ping.clone();
    own[4] = 0;
    own[9..].copy_from_slice(b"are you?");
    client.write_all(&own).await.unwrap();
    while !read_frame(&mut client).await.ends_with(b"are you?") {}
    assert!(matches!(
        presence.proven(Duration::from_millis(1)).await,
        Err(Refusal::Silent { .. })
    ));
    // Even byte by byte the right one does.
    for byte in &ping {
        client.write_all(&[*byte]).await.unwrap();
    }
    presence.proven(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test]
async fn a_removed_socket_comes_back_and_open_connections_live_on() {
    let serving = Serving::start();
    let channel = dial(&serving.socket()).await;
    ask(&channel).await.unwrap();
    std::fs::remove_file(serving.socket()).unwrap();
    let again = loop {
        match try_dial(&serving.socket()).await {
            Ok(channel) => break channel,
            // Nothing to watch before the socket is there: the door itself looks once a second.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    ask(&again).await.unwrap();
    ask(&channel).await.unwrap();
    assert!(
        std::fs::metadata(serving.socket())
            .unwrap()
            .file_type()
            .is_socket()
    );
}

#[tokio::test]
async fn past_the_bound_a_caller_is_turned_away_until_it_lets_go() {
    let serving = Serving::with(
        UdsLimits {
            per_caller: 3,
            ..UdsLimits::default()
        },
        None,
    );
    let held: Vec<_> = futures(3, async || dial(&serving.socket()).await).await;
    for channel in &held {
        ask(channel).await.unwrap();
    }
    let mut turned_away = UnixStream::connect(serving.socket()).await.unwrap();
    let end = turned_away.read(&mut [0; 64]).await;
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    drop(held);
    while match try_dial(&serving.socket()).await {
        Ok(channel) => ask(&channel).await.is_err(),
        Err(_) => true,
    } {}
}

#[tokio::test]
async fn a_client_that_says_nothing_or_no_http2_is_closed() {
    let limits = UdsLimits {
        preface: Duration::from_millis(50),
        ..UdsLimits::default()
    };
    let serving = Serving::with(limits, None);
    let mut silent = UnixStream::connect(serving.socket()).await.unwrap();
    let mut slow = UnixStream::connect(serving.socket()).await.unwrap();
    slow.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
    let mut other = UnixStream::connect(serving.socket()).await.unwrap();
    other
        .write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .unwrap();
    for client in [&mut silent, &mut slow, &mut other] {
        let mut rest = Vec::new();
        // What came before the end are the server's SETTINGS; the test ends because the connection does.
        let _ = client.read_to_end(&mut rest).await;
    }
}

#[tokio::test]
async fn stopping_waits_for_connections_and_a_cut_ends_them() {
    let serving = Serving::start();
    let client = UnixStream::connect(serving.socket()).await.unwrap();
    let channel = dial(&serving.socket()).await;
    ask(&channel).await.unwrap();
    let cutter = serving.cutter.clone();
    let (stopping, mut stopped) = oneshot::channel();
    let stop = tokio::task::spawn(async move {
        serving.stop().await;
        let _ = stopping.send(());
    });
    tokio::task::yield_now().await;
    assert!(stopped.try_recv().is_err());
    cutter.cut();
    stop.await.unwrap();
    drop((client, channel));
}

async fn futures<T>(count: usize, mut make: impl AsyncFnMut() -> T) -> Vec<T> {
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(make().await);
    }
    all
}

/// A whole request with this authority, its value spelled out or as if Huffman-coded: invalid either way, most of them.
fn request(authority: &str, huffman: bool) -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    let mut block = b"\x83\x86\x44\x14/muster.test.Who/Ask".to_vec();
    block.extend([
        0x41,
        u8::try_from(authority.len()).unwrap() | if huffman { 0x80 } else { 0 },
    ]);
    block.extend(authority.as_bytes());
    block.extend(b"\x5f\x10application/grpc\x40\x02te\x08trailers");
    bytes.extend([0, 0, u8::try_from(block.len()).unwrap(), 1, 4, 0, 0, 0, 1]);
    bytes.extend(block);
    bytes.extend([0, 0, 5, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0]);
    bytes
}

/// The server's first PING, already made an answer.
async fn read_ping(client: &mut UnixStream) -> Vec<u8> {
    loop {
        let mut frame = read_frame(client).await;
        if frame[3] == 6 && frame[4] == 0 {
            frame[4] = 1;
            return frame;
        }
    }
}

async fn read_frame(client: &mut UnixStream) -> Vec<u8> {
    let mut frame = vec![0; 9];
    client.read_exact(&mut frame).await.unwrap();
    let length = u32::from_be_bytes([0, frame[0], frame[1], frame[2]]) as usize;
    frame.resize(9 + length, 0);
    client.read_exact(&mut frame[9..]).await.unwrap();
    frame
}
