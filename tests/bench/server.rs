//! The rows of the server: certificates and entries.

use std::time::{Duration, Instant};

use muster_pki::{KeyAlgorithm, LocalKey, x509::create_csr};
use muster_proto::spire::server::svid::{MintX509svidRequest, svid_client::SvidClient};

use crate::{
    daemon::cpu,
    side::Side,
    table::{Budget, Cell, Row, Table, Unit},
    turns::{Asked, Call, in_turn},
    workload,
};

const MINTERS: usize = 8;

pub(crate) async fn mint(table: &mut Table, spire: Option<&Side>, ours: &Side, each: Duration) {
    let key = LocalKey::generate(KeyAlgorithm::EcP256).unwrap();
    let id = "spiffe://example.org/minted".parse().unwrap();
    let csr = create_csr(&key, Some(&id)).unwrap();
    let mut asked = Vec::new();
    for side in spire.into_iter().chain([ours]) {
        let mut callers: Vec<Call> = Vec::new();
        for _ in 0..MINTERS {
            let (channel, csr) = (side.admin().await, csr.clone());
            callers.push(Box::new(move || {
                let mut client = SvidClient::new(channel.clone());
                let request = MintX509svidRequest {
                    csr: csr.clone(),
                    ttl: 600,
                };
                Box::pin(async move { client.mint_x509svid(request).await.map(|_| ()) })
            }));
        }
        asked.push(Asked {
            pids: vec![side.server.pid()],
            callers,
        });
    }
    let mut did = in_turn(asked, 3, each).await.into_iter();
    let did = [spire.and_then(|_| did.next()), None, did.next()];
    workload::rate(table, "MintX509SVID, 8 callers", &did, Budget::AtLeast(8_000.0));
    workload::cpu(
        table,
        "its CPU time in the server",
        &did,
        0,
        Budget::AtMost(110.0),
    );
}

/// Creates `many` entries of this node in batches, for nobody who is present; entries per second and CPU time each.
pub(crate) async fn fill(side: &Side, from: usize, many: usize) -> (f64, f64) {
    const BATCH: usize = 500;
    let channel = side.admin().await;
    let (began, before) = (Instant::now(), cpu(side.server.pid()));
    for batch in (from..from + many).step_by(BATCH) {
        let entries = (batch..batch + BATCH)
            .map(|number| {
                let nobody = format!("unix:uid:{}", 5_000_000 + number);
                side.entry(&format!("/batch/{number}"), &[nobody])
            })
            .collect();
        side.create(&channel, entries).await;
    }
    let spent = cpu(side.server.pid()) - before;
    (
        many as f64 / began.elapsed().as_secs_f64(),
        spent.as_secs_f64() * 1e6 / many as f64,
    )
}

pub(crate) fn created(table: &mut Table, spire: Option<(f64, f64)>, ours: (f64, f64)) {
    let figure = |figure: Option<f64>| figure.map_or(Cell::Empty, Cell::Figure);
    table.add(Row {
        what: "entries created, durable, batches of 500".into(),
        unit: Unit::PerSecond,
        spire: figure(spire.map(|(rate, _)| rate)),
        bare: Cell::Empty,
        ours: Cell::Figure(ours.0),
        budget: Budget::AtLeast(20_000.0),
    });
    table.add(Row {
        what: "— its CPU time in the server, an entry".into(),
        unit: Unit::Micros,
        spire: figure(spire.map(|(_, us)| us)),
        bare: Cell::Empty,
        ours: Cell::Figure(ours.1),
        budget: Budget::None,
    });
}
