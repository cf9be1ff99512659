//! The rows of the Workload API under load.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use muster_proto::workload::{JwtsvidRequest, spiffe_workload_api_client::SpiffeWorkloadApiClient};

use crate::{
    canned::Canned,
    side::{Side, dial, request, watch},
    table::{Budget, Cell, Row, Table, Unit},
    turns::{Asked, Call, Did, in_turn},
};

/// Who is measured here, in the order of the turns: SPIRE's agent, the canned answers, ours.
pub(crate) struct Doors {
    doors: [Option<Door>; 3],
    each: Duration,
}

#[derive(Clone)]
struct Door {
    socket: PathBuf,
    pids: Vec<i32>,
}

/// How often everybody is asked.
const ROUNDS: usize = 3;

impl Doors {
    pub(crate) fn of(spire: Option<&Side>, canned: &Canned, ours: &Side, each: Duration) -> Self {
        let door = |side: &Side| Door {
            socket: side.workload.clone(),
            pids: vec![side.agent.pid(), side.server.pid()],
        };
        let bare = Door {
            socket: canned.socket.clone(),
            pids: vec![canned.daemon.pid()],
        };
        Self {
            doors: [spire.map(door), Some(bare), Some(door(ours))],
            each,
        }
    }

    /// Everything that is measured by calls alone.
    pub(crate) async fn measure(&self, table: &mut Table) {
        let did = self.ask(16, Kind::Open).await;
        rate(
            table,
            "FetchX509SVID on an open connection, 16 callers",
            &did,
            Budget::AtLeast(18_000.0),
        );
        cpu(table, "its CPU time in the agent", &did, 0, Budget::AtMost(25.0));

        let did = self.ask(1, Kind::New).await;
        let p50 = |did: &Option<Did>| cell(did, |did| did.p50_ms);
        row(
            table,
            "the same, a new connection each, 1 caller, p50",
            Unit::Millis,
            &did,
            p50,
            Budget::AtMost(0.65),
        );
        cpu(table, "its CPU time in the agent", &did, 0, Budget::None);

        let did = self.ask(4, Kind::CachedToken).await;
        rate(
            table,
            "FetchJWTSVID, token held, 4 callers",
            &did,
            Budget::AtLeast(15_000.0),
        );
        cpu(table, "its CPU time in the agent", &did, 0, Budget::None);

        let mut did = self.ask(4, Kind::NewToken).await;
        did[1] = None;
        rate(
            table,
            "FetchJWTSVID, new audience each, 4 callers",
            &did,
            Budget::AtLeast(6_000.0),
        );
        cpu(table, "its CPU time in the agent", &did, 0, Budget::None);
        cpu(table, "its CPU time in the server", &did, 1, Budget::None);
    }

    async fn ask(&self, callers: usize, kind: Kind) -> [Option<Did>; 3] {
        let mut asked = Vec::new();
        for (number, door) in self.doors.iter().enumerate() {
            let Some(door) = door else { continue };
            let mut calls = Vec::new();
            for caller in 0..callers {
                calls.push(kind.call(&door.socket, number * callers + caller).await);
            }
            asked.push(Asked {
                pids: door.pids.clone(),
                callers: calls,
            });
        }
        let mut did = in_turn(asked, ROUNDS, self.each).await.into_iter();
        [0, 1, 2].map(|number| self.doors[number].as_ref().and_then(|_| did.next()))
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Open,
    New,
    CachedToken,
    NewToken,
}

impl Kind {
    async fn call(self, socket: &Path, caller: usize) -> Call {
        let socket = socket.to_path_buf();
        if let Self::New = self {
            return Box::new(move || {
                let socket = socket.clone();
                Box::pin(async move {
                    let channel = dial(socket)
                        .await
                        .map_err(|error| tonic::Status::unavailable(error.to_string()))?;
                    watch(channel).await.map(|_| ())
                })
            });
        }
        let channel = dial(socket).await.unwrap();
        if let Self::Open = self {
            return Box::new(move || {
                let channel = channel.clone();
                Box::pin(async move { watch(channel).await.map(|_| ()) })
            });
        }
        let mut number = 0u64;
        Box::new(move || {
            let mut client = SpiffeWorkloadApiClient::new(channel.clone());
            number += 1;
            let audience = match self {
                Self::NewToken => format!("bench-{caller}-{number}"),
                _ => "bench".to_owned(),
            };
            Box::pin(async move {
                let message = JwtsvidRequest {
                    audience: vec![audience],
                    spiffe_id: String::new(),
                };
                client.fetch_jwtsvid(request(message)).await.map(|_| ())
            })
        })
    }
}

fn cell(did: &Option<Did>, figure: impl Fn(&Did) -> f64) -> Cell {
    did.as_ref().map_or(Cell::Empty, |did| Cell::Figure(figure(did)))
}

/// A row of three.
pub(crate) fn row(
    table: &mut Table,
    what: &str,
    unit: Unit,
    did: &[Option<Did>; 3],
    figure: impl Fn(&Option<Did>) -> Cell,
    budget: Budget,
) {
    let [spire, bare, ours] = [0, 1, 2].map(|number| figure(&did[number]));
    let refused: u64 = did.iter().flatten().map(|did| did.refused).sum();
    if refused > 0 {
        println!("refused meanwhile: {refused}");
    }
    table.add(Row {
        what: what.to_owned(),
        unit,
        spire,
        bare,
        ours,
        budget,
    });
}

pub(crate) fn rate(table: &mut Table, what: &str, did: &[Option<Did>; 3], budget: Budget) {
    row(
        table,
        what,
        Unit::PerSecond,
        did,
        |did| cell(did, |did| did.per_second),
        budget,
    );
}

pub(crate) fn cpu(table: &mut Table, what: &str, did: &[Option<Did>; 3], process: usize, budget: Budget) {
    let figure = |did: &Option<Did>| {
        did.as_ref()
            .and_then(|did| did.cpu_us.get(process))
            .map_or(Cell::Empty, |us| Cell::Figure(*us))
    };
    row(table, &format!("— {what}"), Unit::Micros, did, figure, budget);
}
