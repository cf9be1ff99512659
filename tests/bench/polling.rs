//! The rows of nodes that poll: 200 of SPIRE's kind, simulated in this process, look at 5,000 entries each every five seconds. Servers of their
//! own stand for both sides here: each limits how fast one address may join, and all of them are one.

use std::time::{Duration, Instant};

use muster_proto::spire::{
    server::entry::{BatchCreateEntryRequest, entry_client::EntryClient},
    types,
};
use muster_tests::{
    Cluster, Home, PollingAgent, Process, Settings, SpireServer, SpireSettings, TRUST_DOMAIN,
};
use tokio::task::JoinSet;

use crate::{
    memory,
    table::{Budget, Table, Unit},
};

const AGENTS: usize = 200;
const ENTRIES: usize = 5_000;
/// What a node gets: these, and the one that is its second name.
const EACH_GETS: usize = ENTRIES + 1;
const EACH: Duration = Duration::from_secs(5);
const ROUNDS: u32 = 6;
/// How many agents fetch everything at the same time.
const AT_ONCE: usize = 8;

/// What the server spent.
struct Spent {
    /// On one agent that fetches everything.
    first_ms: f64,
    /// Of one processor, while all poll.
    percent: f64,
    megabytes: f64,
}

/// Measures SPIRE, if it is wanted, and then ours. Starts and stops the servers, so it is called outside of a runtime.
pub(crate) fn measure(table: &mut Table, runtime: &tokio::runtime::Runtime, with_spire: bool) {
    let mut spent = vec![];
    if with_spire {
        let spire = SpireServer::start(&SpireSettings {
            server: "ratelimit {\n    attestation = false\n    signing = false\n  }",
            ..SpireSettings::default()
        });
        let home = spire.home();
        spent.push(runtime.block_on(poll(&home, spire.process())));
    }
    let muster = Cluster::start_server_only(&Settings {
        server: "[limits]\nattestation = false\nsigning = false\n",
        ..Settings::default()
    });
    spent.push(runtime.block_on(poll(&muster.home(), muster.server())));
    let figures = |figure: fn(&Spent) -> f64| spent.iter().map(figure).collect::<Vec<_>>();
    memory::add(
        table,
        "a node that polls fetches 5,000 entries, CPU time in the server",
        Unit::Millis,
        &figures(|spent| spent.first_ms),
        Budget::None,
    );
    memory::add(
        table,
        "200 nodes poll 5,000 entries every 5 s, CPU of the server",
        Unit::Percent,
        &figures(|spent| spent.percent),
        Budget::None,
    );
    memory::add(
        table,
        "— memory of the server",
        Unit::Megabytes,
        &figures(|spent| spent.megabytes),
        Budget::None,
    );
}

async fn poll(home: &Home, server: &Process) -> Spent {
    let mut client = EntryClient::new(home.channel().await);
    for from in (0..ENTRIES).step_by(500) {
        let entries = (from..from + 500).map(entry).collect();
        let request = BatchCreateEntryRequest {
            entries,
            output_mask: None,
        };
        client.batch_create_entry(request).await.unwrap();
    }
    let mut agents = vec![];
    for _ in 0..AGENTS {
        agents.push(PollingAgent::join(home, "spiffe://example.org/fleet").await);
    }
    // SPIRE's server looks into its store every five seconds: from when on the last agent gets all, every one does.
    let mut last = agents.pop().expect("there are agents");
    while last.held() < EACH_GETS {
        last.poll().await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    let before = server.processor_time();
    let mut fetching = JoinSet::new();
    let mut filled = vec![last];
    for mut agent in agents {
        if fetching.len() == AT_ONCE {
            filled.push(fetching.join_next().await.expect("they are there").unwrap());
        }
        fetching.spawn(async move {
            let polled = agent.poll().await.unwrap();
            assert_eq!(polled.entries, EACH_GETS);
            agent
        });
    }
    filled.extend(fetching.join_all().await);
    let first = server.processor_time() - before;

    let before = server.processor_time();
    let began = Instant::now();
    let mut polling = JoinSet::new();
    for (place, mut agent) in filled.into_iter().enumerate() {
        polling.spawn(async move {
            // Spread over the interval, as agents are that started at some time or other.
            let offset = EACH.mul_f64(place as f64 / AGENTS as f64);
            for round in 0..ROUNDS {
                tokio::time::sleep_until((began + offset + EACH * round).into()).await;
                // On a machine that does too much a connection may be given up; the next look opens another.
                let polled = match agent.poll().await {
                    Ok(polled) => polled,
                    Err(_) => agent.poll().await.unwrap(),
                };
                assert_eq!((polled.revisions, polled.entries), (EACH_GETS, 0));
            }
        });
    }
    polling.join_all().await;
    let polled = server.processor_time() - before;
    Spent {
        first_ms: first.as_secs_f64() * 1e3 / (AGENTS - 1) as f64,
        percent: polled.as_secs_f64() * 100.0 / began.elapsed().as_secs_f64(),
        megabytes: server.resident_mib() as f64,
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
