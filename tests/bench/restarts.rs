//! How long it takes to be there again.

use std::time::{Duration, Instant};

use crate::{
    memory,
    side::Side,
    table::{Budget, Cell, Row, Table, Unit},
    turns::median,
};

const ROUNDS: usize = 5;

/// From the start of the server's process to its first answer; the median of several.
pub(crate) async fn server(side: &mut Side, rounds: usize) -> f64 {
    let mut seen = Vec::new();
    for _ in 0..rounds {
        side.server.stop();
        let began = Instant::now();
        side.server.start();
        side.server_answers().await;
        seen.push(began.elapsed().as_secs_f64() * 1e3);
    }
    median(&mut seen)
}

async fn agent(side: &mut Side) -> f64 {
    let mut seen = Vec::new();
    for _ in 0..ROUNDS {
        side.agent.stop();
        let began = Instant::now();
        side.start_agent().await;
        seen.push(began.elapsed().as_secs_f64() * 1e3);
    }
    median(&mut seen)
}

pub(crate) async fn starts(table: &mut Table, spire: Option<&mut Side>, ours: &mut Side) {
    let (mut servers, mut agents) = (Vec::new(), Vec::new());
    for side in spire.into_iter().chain([ours]) {
        servers.push(server(side, ROUNDS).await);
        agents.push(agent(side).await);
    }
    memory::add(
        table,
        "server started → its first answer, no entries",
        Unit::Millis,
        &servers,
        Budget::AtMost(100.0),
    );
    memory::add(
        table,
        "agent started → first SVID of a workload",
        Unit::Millis,
        &agents,
        Budget::AtMost(300.0),
    );
}

/// Both daemons are killed, and only the agent comes back.
pub(crate) async fn without_server(table: &mut Table, spire: Option<&mut Side>, ours: &mut Side) {
    const PATIENCE: Duration = Duration::from_secs(20);
    let mut cells = Vec::new();
    for side in spire.into_iter().chain([ours]) {
        side.server.kill();
        side.agent.kill();
        let began = Instant::now();
        side.agent.start();
        let served = side.serves(PATIENCE).await;
        let took = began.elapsed().as_secs_f64() * 1e3;
        cells.push(if served {
            Cell::Figure(took)
        } else {
            Cell::Words("none in 20 s")
        });
        side.server.start();
        side.server_answers().await;
        side.agent.kill();
        side.start_agent().await;
    }
    let ours = cells.pop().expect("ours is always measured");
    table.add(Row {
        what: "both killed, agent restarted alone → first SVID".into(),
        unit: Unit::Millis,
        spire: cells.pop().unwrap_or(Cell::Empty),
        bare: Cell::Empty,
        ours,
        budget: Budget::AtMost(100.0),
    });
}
