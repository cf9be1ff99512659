//! The rows of the server, and those from the server to a stream.

use std::time::Instant;

use muster_pki::{KeyAlgorithm, LocalKey, x509::create_csr};
use muster_proto::spire::server::{
    entry::{BatchCreateEntryRequest, entry_client::EntryClient},
    svid::{MintX509svidRequest, svid_client::SvidClient},
};
use tokio::task::JoinSet;

use crate::{
    figures::{Figures, Span, percentile},
    workload::watch,
};

pub(crate) async fn mint(figures: &Figures<'_>) {
    let key = LocalKey::generate(KeyAlgorithm::EcP256).unwrap();
    let id = "spiffe://example.org/minted".parse().unwrap();
    let csr = create_csr(&key, Some(&id)).unwrap();
    let mut callers = JoinSet::new();
    let mut channels = Vec::new();
    for _ in 0..8 {
        channels.push(figures.cluster.channel().await);
    }
    let span = Span::begin(figures.cluster.server().pid());
    let end = span.began + figures.each;
    for channel in channels {
        let csr = csr.clone();
        callers.spawn(async move {
            let mut client = SvidClient::new(channel);
            let (mut done, mut refused) = (0u64, 0u64);
            while Instant::now() < end {
                match client
                    .mint_x509svid(MintX509svidRequest {
                        csr: csr.clone(),
                        ttl: 600,
                    })
                    .await
                {
                    Ok(_) => done += 1,
                    Err(_) => refused += 1,
                }
            }
            (done, refused)
        });
    }
    let (done, refused) = callers
        .join_all()
        .await
        .into_iter()
        .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    figures.rate("MintX509SVID, 8 callers", &span, done);
    if refused > 0 {
        figures.line("  refused meanwhile", refused);
    }
}

pub(crate) async fn create_entries(figures: &Figures<'_>) {
    const BATCH: usize = 500;
    let mut client = EntryClient::new(figures.cluster.channel().await);
    let span = Span::begin(figures.cluster.server().pid());
    let mut done = 0u64;
    while span.began.elapsed() < figures.each {
        let entries = (0..BATCH)
            .map(|number| {
                let number = done + number as u64;
                // Of nobody present: what is measured is the server.
                figures.cluster.entry(
                    &format!("/batch/{number}"),
                    &[&format!("unix:uid:{}", 5_000_000 + number)],
                )
            })
            .collect();
        let answer = client
            .batch_create_entry(BatchCreateEntryRequest {
                entries,
                output_mask: None,
            })
            .await
            .unwrap();
        let created = answer
            .into_inner()
            .results
            .iter()
            .filter(|result| result.entry.is_some())
            .count();
        assert_eq!(created, BATCH);
        done += created as u64;
    }
    figures.rate("entries created, durable, batches of 500", &span, done);
}

pub(crate) async fn create_to_stream(figures: &Figures<'_>) {
    const ROUNDS: usize = 50;
    let uid = format!("unix:uid:{}", nix::unistd::getuid());
    let (mut stream, _) = watch(figures.dial().await).await;
    let (mut created, mut deleted) = (Vec::new(), Vec::new());
    let mut entries = EntryClient::new(figures.cluster.channel().await);
    for round in 0..ROUNDS {
        let entry = figures.cluster.entry(&format!("/to-stream/{round}"), &[&uid]);
        let path = format!("spiffe://example.org/to-stream/{round}");
        let began = Instant::now();
        let answer = entries
            .batch_create_entry(BatchCreateEntryRequest {
                entries: vec![entry],
                output_mask: None,
            })
            .await;
        let id = answer.unwrap().into_inner().results.remove(0).entry.unwrap().id;
        while !stream
            .message()
            .await
            .unwrap()
            .unwrap()
            .svids
            .iter()
            .any(|svid| svid.spiffe_id == path)
        {}
        created.push(began.elapsed());
        let began = Instant::now();
        let ids = vec![id];
        entries
            .batch_delete_entry(muster_proto::spire::server::entry::BatchDeleteEntryRequest { ids })
            .await
            .unwrap();
        while stream
            .message()
            .await
            .unwrap()
            .unwrap()
            .svids
            .iter()
            .any(|svid| svid.spiffe_id == path)
        {}
        deleted.push(began.elapsed());
    }
    for (what, mut seen) in [
        ("entry created -> SVID on an open stream", created),
        ("entry deleted -> gone from the stream", deleted),
    ] {
        let (p50, p99) = (percentile(&mut seen, 50), percentile(&mut seen, 99));
        figures.line(what, format!("p50 {p50:.1} ms, p99 {p99:.1} ms"));
    }
}
