//! What the daemons hold and use while nothing happens, and while many streams are open.

use std::time::Duration;

use crate::{
    daemon::cpu,
    side::{Side, watch},
    table::{Budget, Cell, Row, Table, Unit},
};

/// How long a daemon may settle after its start.
const SETTLE: Duration = Duration::from_secs(10);
/// How long until the entries that were just made are not only in the journal, but written behind it too: the server begins with
/// that half a minute after a change, and until then it has work to do.
const WRITTEN: Duration = Duration::from_secs(45);
const STREAMS: usize = 1_000;

pub(crate) async fn idle(table: &mut Table, spire: Option<&Side>, ours: &Side) {
    tokio::time::sleep(SETTLE).await;
    both(
        table,
        "memory of the server, idle",
        spire,
        ours,
        Budget::AtMost(20.0),
        |side| side.server.megabytes(),
    );
    both(
        table,
        "memory of the agent, idle",
        spire,
        ours,
        Budget::AtMost(12.0),
        |side| side.agent.megabytes(),
    );
}

/// Restarts the agents, so that each count begins with a fresh one.
pub(crate) async fn streams(table: &mut Table, mut spire: Option<&mut Side>, ours: &mut Side) {
    for (what, each, budget) in [
        (
            "memory of the agent, 1,000 streams on 100 connections",
            10,
            Budget::AtMost(45.0),
        ),
        (
            "memory of the agent, 1,000 streams, a connection each",
            1,
            Budget::None,
        ),
    ] {
        let mut figures = Vec::new();
        for side in spire.iter_mut().map(|side| &mut **side).chain([&mut *ours]) {
            side.agent.stop();
            side.start_agent().await;
            let mut held = Vec::new();
            for _ in 0..STREAMS / each {
                let channel = side.dial().await;
                for _ in 0..each {
                    held.push(watch(channel.clone()).await.unwrap());
                }
            }
            figures.push(side.agent.megabytes());
        }
        add(table, what, Unit::Megabytes, &figures, budget);
    }
    for side in spire.into_iter().chain([ours]) {
        side.agent.stop();
        side.start_agent().await;
    }
}

/// Watches all daemons at once: they do nothing, so none disturbs another.
pub(crate) async fn idle_cpu(table: &mut Table, spire: Option<&Side>, ours: &Side, over: Duration) {
    tokio::time::sleep(WRITTEN).await;
    let sides: Vec<&Side> = spire.into_iter().chain([ours]).collect();
    let spent = || -> Vec<[Duration; 2]> {
        sides
            .iter()
            .map(|side| [cpu(side.agent.pid()), cpu(side.server.pid())])
            .collect()
    };
    let before = spent();
    tokio::time::sleep(over).await;
    let after = spent();
    for (process, what) in [
        "idle CPU of the agent, 20,000 entries of its node",
        "idle CPU of the server, 20,000 entries",
    ]
    .into_iter()
    .enumerate()
    {
        let figures: Vec<f64> = before
            .iter()
            .zip(&after)
            .map(|(before, after)| {
                (after[process] - before[process]).as_secs_f64() / over.as_secs_f64() * 100.0
            })
            .collect();
        add(table, what, Unit::Percent, &figures, Budget::AtMost(0.2));
    }
}

/// One figure of each side, at this moment.
pub(crate) fn both(
    table: &mut Table,
    what: &str,
    spire: Option<&Side>,
    ours: &Side,
    budget: Budget,
    figure: impl Fn(&Side) -> f64,
) {
    let figures: Vec<f64> = spire.into_iter().chain([ours]).map(figure).collect();
    add(table, what, Unit::Megabytes, &figures, budget);
}

/// A row of SPIRE's figure, if there is one, and ours.
pub(crate) fn add(table: &mut Table, what: &str, unit: Unit, figures: &[f64], budget: Budget) {
    let (spire, ours) = match figures {
        [ours] => (Cell::Empty, *ours),
        [spire, ours] => (Cell::Figure(*spire), *ours),
        _ => unreachable!("there are two sides"),
    };
    table.add(Row {
        what: what.to_owned(),
        unit,
        spire,
        bare: Cell::Empty,
        ours: Cell::Figure(ours),
        budget,
    });
}

/// A row in which SPIRE's figure is of 20,000 entries.
pub(crate) fn remarked(
    table: &mut Table,
    what: &str,
    unit: Unit,
    spire: Option<f64>,
    ours: f64,
    budget: Budget,
) {
    table.add(Row {
        what: what.to_owned(),
        unit,
        spire: spire.map_or(Cell::Empty, |figure| Cell::Remarked(figure, "20,000")),
        bare: Cell::Empty,
        ours: Cell::Figure(ours),
        budget,
    });
}
