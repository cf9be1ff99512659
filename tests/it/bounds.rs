//! What is asked of a daemon in one message has a bound (I10), however it is put.

use std::path::PathBuf;

use muster_proto::spire::{
    server::entry::{BatchCreateEntryRequest, ListEntriesRequest, entry_client::EntryClient},
    types,
};
use muster_tests::{Cluster, Latency, PATIENCE, Settings};
use tonic::Code;

const ENTRIES: u32 = 5_000;

#[test]
fn a_page_is_a_page_however_large_a_one_is_asked_for() {
    let cluster = Cluster::start_server_only(&Settings::default());
    cluster.block_on(async {
        let mut client = EntryClient::new(cluster.channel().await);
        let template = entry(&cluster);
        for first in (0..ENTRIES).step_by(500) {
            let entries = (first..first + 500).map(|number| numbered(&template, number));
            let request = BatchCreateEntryRequest {
                entries: entries.collect(),
                output_mask: None,
            };
            client.batch_create_entry(request).await.unwrap();
        }
    });
    let before = cluster.server().resident_mib();
    cluster.block_on(async {
        let mut client = EntryClient::new(cluster.channel().await).max_decoding_message_size(64 << 20);
        for round in 0..20 {
            let request = ListEntriesRequest {
                page_size: i32::MAX - round,
                ..ListEntriesRequest::default()
            };
            let page = client.list_entries(request).await.unwrap().into_inner();
            assert_eq!(page.entries.len(), 1_000);
            assert!(!page.next_page_token.is_empty());
        }
        for size in [-1, i32::MIN] {
            let request = ListEntriesRequest {
                page_size: size,
                ..ListEntriesRequest::default()
            };
            let refused = client.list_entries(request).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        }
    });
    let after = cluster.server().resident_mib();
    println!(
        "figure: pages of {} entries asked for: server {before} MiB, then {after} MiB",
        i32::MAX
    );
    assert!(after < before + 16, "{before} MiB, then {after} MiB");
}

#[test]
fn an_entry_that_is_too_large_is_refused_and_those_beside_it_are_made() {
    let cluster = Cluster::start_server_only(&Settings::default());
    let before = cluster.server().resident_mib();
    let template = entry(&cluster);
    let selector = |number: u32| types::Selector {
        r#type: "unix".into(),
        value: format!("uid:{number}"),
    };
    type Bomb = fn(&mut types::Entry, &dyn Fn(u32) -> types::Selector);
    let bombs: [(&str, Bomb); 6] = [
        ("selectors", |entry, selector| {
            entry.selectors = (0..50_000).map(selector).collect();
        }),
        ("a selector", |entry, _| {
            entry.selectors[0].value = "x".repeat(1 << 20);
        }),
        ("names", |entry, _| {
            entry.dns_names = (0..50_000).map(|number| format!("n{number}.org")).collect();
        }),
        ("a hint", |entry, _| entry.hint = "h".repeat(1 << 20)),
        ("a path", |entry, _| {
            entry.spiffe_id.as_mut().unwrap().path = format!("/{}", "p".repeat(1 << 20));
        }),
        ("federation", |entry, _| {
            entry.federates_with = (0..50_000).map(|number| format!("td{number}.org")).collect();
        }),
    ];
    cluster.block_on(async {
        let mut client = EntryClient::new(cluster.channel().await);
        for (number, (what, bomb)) in bombs.iter().enumerate() {
            let mut large = template.clone();
            bomb(&mut large, &selector);
            let number = u32::try_from(number).unwrap();
            let request = BatchCreateEntryRequest {
                entries: vec![large, numbered(&template, number)],
                output_mask: None,
            };
            match client.batch_create_entry(request).await {
                Ok(answer) => {
                    let codes: Vec<i32> = answer
                        .into_inner()
                        .results
                        .into_iter()
                        .map(|result| result.status.unwrap().code)
                        .collect();
                    assert_eq!(codes, [Code::InvalidArgument as i32, 0], "{what}");
                }
                // Larger than any message.
                Err(status) => assert!(
                    matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted),
                    "{what}: {status}"
                ),
            }
        }
    });
    let after = cluster.server().resident_mib();
    println!("figure: entries of a megabyte: server {before} MiB, then {after} MiB");
    assert!(after < before + 32, "{before} MiB, then {after} MiB");
}

#[test]
fn messages_that_are_packed_or_nested_without_end_are_refused_and_the_daemons_live() {
    let cluster = Cluster::start(&Settings::default());
    cluster.register("/served", &[&format!("unix:uid:{}", nix::unistd::getuid())]);
    muster_tests::Workload::Rust
        .start(&cluster, &["fetch-x509"])
        .event("x509");
    // Field 15 opens a group, and in it another, and so on.
    let nested = |depth: usize| [vec![0x7b; depth], vec![0x7c; depth]].concat();
    let places = [
        (cluster.workload_socket(), "/SpiffeWorkloadAPI/FetchX509SVID"),
        (cluster.workload_socket(), "/SpiffeWorkloadAPI/ValidateJWTSVID"),
        (
            cluster.server_socket(),
            "/spire.api.server.entry.v1.Entry/BatchCreateEntry",
        ),
        (
            cluster.server_socket(),
            "/spire.api.server.agent.v1.Agent/CreateJoinToken",
        ),
    ];
    for (socket, path) in &places {
        for (what, flag, message) in [
            ("groups", 0, nested(60_000)),
            ("no end of a group", 0, vec![0x7b; 100_000]),
            (
                "a length past the end",
                0,
                vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f],
            ),
            ("packed", 1, vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]),
            ("an unknown flag", 2, vec![]),
        ] {
            let called = call(&cluster, socket.clone(), path, flag, &message);
            let status = cluster.block_on(async { tokio::time::timeout(PATIENCE, called).await });
            let status = status.unwrap_or_else(|_| panic!("{path}: {what}: no answer"));
            assert_ne!(status, Some(0), "{path}: {what}");
        }
    }
    let waits = Latency::of_first_svids(&cluster, 20);
    println!("figure: after messages nested 60,000 deep: first SVID {waits}");
    cluster.muster_ok(&["token", "create"]);
}

/// One message, put by hand; the gRPC status, if there is one.
async fn call(cluster: &Cluster, socket: PathBuf, path: &str, flag: u8, message: &[u8]) -> Option<u32> {
    let stream = tokio::net::UnixStream::connect(socket).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    let driver = cluster.spawn(connection);
    let mut request = http::Request::post(format!("http://localhost{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("workload.spiffe.io", "true");
    if flag == 1 {
        request = request.header("grpc-encoding", "gzip");
    }
    let (response, mut body) = client
        .ready()
        .await
        .unwrap()
        .send_request(request.body(()).unwrap(), false)
        .unwrap();
    let length = u32::try_from(message.len()).unwrap();
    let framed = [&[flag][..], &length.to_be_bytes(), message].concat();
    // A refusal may come before all of it was taken.
    let _ = body.send_data(framed.into(), true);
    let response = response.await.unwrap();
    let of = |headers: &http::HeaderMap| headers.get("grpc-status")?.to_str().ok()?.parse().ok();
    let early = of(response.headers());
    let mut body = response.into_body();
    // A message would be an answer, and its stream might never end.
    if body.data().await.is_some_and(|part| !part.unwrap().is_empty()) {
        driver.abort();
        return Some(0);
    }
    let status = early.or(body.trailers().await.unwrap().as_ref().and_then(of));
    driver.abort();
    status
}

fn entry(cluster: &Cluster) -> types::Entry {
    let mut entry = cluster.entry("/x", &["unix:uid:1"]);
    entry.parent_id = Some(types::Spiffeid {
        trust_domain: muster_tests::TRUST_DOMAIN.into(),
        path: "/parent".into(),
    });
    entry
}

fn numbered(template: &types::Entry, number: u32) -> types::Entry {
    let mut entry = template.clone();
    entry.spiffe_id.as_mut().unwrap().path = format!("/bounds/{number}");
    entry
}
