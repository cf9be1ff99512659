//! How long a change takes from the server's answer being asked for to an open stream of a workload.

use std::time::{Duration, Instant};

use muster_proto::workload::X509svidResponse;
use tonic::Streaming;

use crate::{
    side::{Side, our_selector, watch},
    table::{Budget, Cell, Row, Table, Unit},
    turns::percentile,
};

/// What was seen on one side.
#[derive(Default)]
pub(crate) struct Seen {
    created: Vec<Duration>,
    deleted: Vec<Duration>,
}

/// Creates and deletes an entry of this caller, `rounds` times, and watches its stream.
pub(crate) async fn watch_changes(side: &Side, rounds: usize, seen: &mut Seen) {
    let (mut stream, _) = watch(side.dial().await).await.unwrap();
    let channel = side.admin().await;
    for _ in 0..rounds {
        let path = format!("/to-stream/{}", seen.created.len());
        let began = Instant::now();
        let ids = side
            .create(&channel, vec![side.entry(&path, &[our_selector()])])
            .await;
        until_held(&mut stream, &path, true).await;
        seen.created.push(began.elapsed());
        let began = Instant::now();
        side.delete(&channel, ids).await;
        until_held(&mut stream, &path, false).await;
        seen.deleted.push(began.elapsed());
    }
}

async fn until_held(stream: &mut Streaming<X509svidResponse>, path: &str, wanted: bool) {
    loop {
        let update = stream.message().await.unwrap().expect("the stream stays open");
        let held = update.svids.iter().any(|svid| svid.spiffe_id.ends_with(path));
        if held == wanted {
            return;
        }
    }
}

/// Two rows; `load` says what else the server held.
pub(crate) fn told(
    table: &mut Table,
    load: &str,
    spire: Option<Seen>,
    spire_remark: Option<&'static str>,
    ours: Seen,
) {
    let (spire_created, spire_deleted) = match spire {
        Some(seen) => (Some(seen.created), Some(seen.deleted)),
        None => (None, None),
    };
    for (what, spire, mut ours) in [
        (
            "entry created → SVID on an open stream",
            spire_created,
            ours.created,
        ),
        (
            "entry deleted → gone from an open stream",
            spire_deleted,
            ours.deleted,
        ),
    ] {
        let mut spire = spire;
        for (part, name) in [(50, "p50"), (99, "p99")] {
            let figure = spire.as_mut().map(|seen| percentile(seen, part));
            table.add(Row {
                what: format!("{what}{load}, {name}"),
                unit: Unit::Millis,
                spire: match (figure, spire_remark) {
                    (None, _) => Cell::Empty,
                    (Some(figure), None) => Cell::Figure(figure),
                    (Some(figure), Some(remark)) => Cell::Remarked(figure, remark),
                },
                bare: Cell::Empty,
                ours: Cell::Figure(percentile(&mut ours, part)),
                budget: if part == 99 {
                    Budget::AtMost(50.0)
                } else {
                    Budget::None
                },
            });
        }
    }
}
