//! Many nodes that poll as SPIRE's agent does, on either server: the short form of the benchmark's row, for correctness alone.

use muster_proto::spire::{
    server::entry::{BatchCreateEntryRequest, BatchUpdateEntryRequest, entry_client::EntryClient},
    types,
};
use muster_tests::{
    Cluster, Home, Polled, PollingAgent, Settings, SpireServer, SpireSettings, TRUST_DOMAIN, spire_is_here,
};

const AGENTS: usize = 20;
const ENTRIES: usize = 600;
/// What a node gets: these, and the one that is its second name.
const EACH_GETS: usize = ENTRIES + 1;

#[test]
fn twenty_agents_get_six_hundred_entries_each_from_our_server() {
    let cluster = Cluster::start_server_only(&Settings {
        server: "[limits]\nattestation = false\n",
        ..Settings::default()
    });
    cluster.block_on(poll_in_numbers(&cluster.home()));
}

#[test]
fn twenty_agents_get_six_hundred_entries_each_from_spires_server() {
    if !spire_is_here() {
        return;
    }
    let spire = SpireServer::start(&SpireSettings {
        server: "ratelimit { attestation = false }\n  experimental { cache_reload_interval = \"1s\" }",
        ..SpireSettings::default()
    });
    let home = spire.home();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(poll_in_numbers(&home));
}

/// Each gets all at first, nothing when nothing changed, and then the one that did.
async fn poll_in_numbers(home: &Home) {
    let mut entries = EntryClient::new(home.channel().await);
    let created = entries
        .batch_create_entry(BatchCreateEntryRequest {
            entries: (0..ENTRIES).map(entry).collect(),
            output_mask: None,
        })
        .await
        .unwrap()
        .into_inner();
    let changed = created.results[7].entry.clone().unwrap();
    let mut agents = vec![];
    for _ in 0..AGENTS {
        agents.push(PollingAgent::join(home, "spiffe://example.org/fleet").await);
    }
    for agent in &mut agents {
        // SPIRE's server looks into its store each second; ours knows at once.
        while agent.held() < EACH_GETS {
            agent.poll().await.unwrap();
        }
        let polled = agent.poll().await.unwrap();
        assert_eq!((polled.revisions, polled.entries), (EACH_GETS, 0));
    }
    let update = BatchUpdateEntryRequest {
        entries: vec![types::Entry {
            hint: "changed".into(),
            ..changed
        }],
        ..Default::default()
    };
    let updated = entries.batch_update_entry(update).await.unwrap().into_inner();
    assert_eq!(updated.results[0].status.as_ref().unwrap().code, 0, "{updated:?}");
    for agent in &mut agents {
        let polled = loop {
            let polled = agent.poll().await.unwrap();
            if polled.entries > 0 {
                break polled;
            }
        };
        let one = Polled {
            revisions: EACH_GETS,
            entries: 1,
        };
        assert_eq!(polled, one);
    }
}

fn entry(number: usize) -> types::Entry {
    let member = |path: String| types::Spiffeid {
        trust_domain: TRUST_DOMAIN.into(),
        path,
    };
    types::Entry {
        spiffe_id: Some(member(format!("/numbered/{number}"))),
        parent_id: Some(member("/fleet".into())),
        selectors: vec![types::Selector {
            r#type: "unix".into(),
            value: format!("uid:{}", 4_000_000 + number),
        }],
        ..Default::default()
    }
}
