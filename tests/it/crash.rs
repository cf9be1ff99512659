//! kill -9 of the server at any instant: what was acknowledged is there, everything else wholly or not at all.

use std::{collections::BTreeMap, sync::mpsc, time::Duration};

use muster_proto::spire::{
    server::entry::{BatchCreateEntryRequest, ListEntriesRequest, entry_client::EntryClient},
    types,
};
use muster_tests::{Cluster, Settings};

/// More in tests/soak.
const ROUNDS: u64 = 50;
const BATCH: u64 = 20;

#[test]
fn a_killed_server_keeps_every_acknowledged_entry() {
    let rounds = std::env::var("MUSTER_KILL_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS);
    let mut cluster = Cluster::start(&Settings::default());
    drop(cluster.take_agent());
    let mut acknowledged: BTreeMap<String, types::Entry> = BTreeMap::new();
    let mut written = 0u64;
    for round in 0..rounds {
        let client = cluster.block_on(async { EntryClient::new(cluster.channel().await) });
        let (acks, acked) = mpsc::channel();
        let first = written;
        let template = cluster.entry("/x", &["unix:uid:1"]);
        let writer = {
            let mut client = client.clone();
            cluster.spawn(async move {
                for batch in 0.. {
                    let entries: Vec<types::Entry> = (0..BATCH)
                        .map(|item| numbered(&template, first + batch * BATCH + item))
                        .collect();
                    let request = BatchCreateEntryRequest { entries, output_mask: None };
                    let Ok(answer) = client.batch_create_entry(request).await else { return (batch + 1) * BATCH };
                    for result in answer.into_inner().results {
                        assert_eq!(result.status.unwrap().code, 0);
                        acks.send(result.entry.unwrap()).unwrap();
                    }
                }
                unreachable!("the server is killed")
            })
        };
        // The instant is the fault's, not a wait for something: spread evenly over the first 50 ms of writing.
        std::thread::sleep(Duration::from_millis(round * 50 / rounds));
        cluster.take_server().kill();
        written += cluster.block_on(writer).unwrap();
        acknowledged.extend(acked.into_iter().map(|entry| (entry.id.clone(), entry)));

        cluster.start_server();
        let held: BTreeMap<String, types::Entry> = cluster.block_on(async {
            let mut client = EntryClient::new(cluster.channel().await);
            let answer = client.list_entries(ListEntriesRequest::default()).await.unwrap().into_inner();
            answer.entries.into_iter().map(|entry| (entry.id.clone(), entry)).collect()
        });
        for (id, entry) in &acknowledged {
            assert_eq!(held.get(id), Some(entry), "round {round}: an acknowledged entry is gone or changed");
        }
        for entry in held.values() {
            assert_eq!(entry.selectors.len(), 1, "round {round}: half an entry");
        }
        // What was never acknowledged counts from now on: it must not vanish either.
        acknowledged = held;
    }
    println!("figure: kill -9: {rounds} rounds, {} entries acknowledged, 0 lost", acknowledged.len());
}

fn numbered(template: &types::Entry, number: u64) -> types::Entry {
    let mut entry = template.clone();
    entry.spiffe_id.as_mut().unwrap().path = format!("/entry/{number}");
    entry
}
