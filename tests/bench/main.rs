//! The benchmark: our daemons beside the real SPIRE, on one machine in one run, asked from outside over the protocols
//! that both speak. Nothing is asserted: a shared machine would make that a lie. CPU time for each call is the figure to
//! trust, because neighbours hardly move it.
//!
//! `tests/bench/run` builds both sides and runs this. `bench [--spire FOLDER] [--seconds N] [--page FILE] [--only ROWS]`:
//! where `spire-server` and `spire-agent` lie (without it only our side is measured), how long a turn of load takes, which
//! page gets the table between its two marks; or some rows alone, which no page gets: of `calls`, of many `entries`, of nodes that
//! are `polling`.

#![expect(
    clippy::unwrap_used,
    reason = "a measurement that can't be made stops by a panic"
)]

mod canned;
mod daemon;
mod delivery;
mod hashed;
mod memory;
mod muster;
mod page;
mod polling;
mod restarts;
mod server;
mod side;
mod spire;
mod table;
mod turns;
mod workload;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use self::{
    canned::Canned,
    delivery::Seen,
    hashed::Program,
    side::Side,
    spire::Executables,
    table::{Budget, Table, Unit},
    turns::Did,
};

struct Args {
    spire: Option<PathBuf>,
    each: Duration,
    page: Option<PathBuf>,
    only: Option<String>,
}

const USAGE: &str =
    "usage: bench [--spire FOLDER] [--seconds N] [--page FILE] [--only calls|entries|polling]";

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    match args.split_first() {
        Some((role, rest)) if role == "canned" => runtime.block_on(canned::serve(rest)),
        Some((role, rest)) if role == "caller" => runtime.block_on(hashed::caller(rest)),
        _ => {
            let args = Args::parse(args);
            match args.only.as_deref() {
                Some("polling") => polling::measure(&mut Table::default(), &runtime, args.spire.is_some()),
                Some(rows) => some(&runtime, &args, rows),
                None => compare(&runtime, &args),
            }
        }
    }
}

impl Args {
    fn parse(args: Vec<String>) -> Self {
        let mut parsed = Self {
            spire: None,
            each: Duration::from_secs(2),
            page: None,
            only: None,
        };
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            match (arg.as_str(), args.next()) {
                ("--spire", Some(folder)) => parsed.spire = Some(folder.into()),
                ("--seconds", Some(seconds)) => parsed.each = Duration::from_secs(seconds.parse().unwrap()),
                ("--page", Some(page)) => parsed.page = Some(page.into()),
                ("--only", Some(rows)) if ["calls", "entries", "polling"].contains(&&*rows) => {
                    parsed.only = Some(rows);
                }
                _ => panic!("{USAGE}"),
            }
        }
        parsed
    }
}

/// Some of the rows of two daemons of each side, for whoever looks for what they cost.
fn some(runtime: &tokio::runtime::Runtime, args: &Args, rows: &str) {
    let (cluster, mut ours) = muster::install();
    let mut spire = args.spire.as_ref().map(|programs| spire::install(programs));
    let mut table = Table::default();
    runtime.block_on(async {
        let mut spire = spire.as_mut().map(|(_, side)| side);
        begin(spire.as_deref_mut(), &mut ours).await;
        match rows {
            "calls" => calls(&mut table, cluster.path(), spire.as_deref(), &ours, args.each).await,
            _ => many_entries(&mut table, spire, &mut ours).await,
        }
    });
}

fn compare(runtime: &tokio::runtime::Runtime, args: &Args) {
    let (began, commit) = (Instant::now(), page::commit());
    let (cluster, mut ours) = muster::install();
    let mut spire = args.spire.as_ref().map(|programs| spire::install(programs));
    let mut table = Table::default();
    let folder = cluster.path();
    let (spire_folder, spire_side) = match &mut spire {
        Some((folder, side)) => (Some(folder.path()), Some(side)),
        None => (None, None),
    };
    runtime.block_on(measure(
        &mut table,
        folder,
        spire_side.zip(spire_folder),
        &mut ours,
        args.each,
    ));
    // The daemons of the rows above end first, to leave the processors to these.
    let with_spire = spire.is_some();
    drop((spire, ours, cluster));
    polling::measure(&mut table, runtime, with_spire);
    let (promised, kept) = table.kept();
    println!(
        "\n{kept} of {promised} budgets kept; {} s",
        began.elapsed().as_secs()
    );
    if let Some(page) = &args.page {
        page::write(page, &commit, &table);
    }
}

async fn measure(
    table: &mut Table,
    folder: &Path,
    spire: Option<(&mut Side, &Path)>,
    ours: &mut Side,
    each: Duration,
) {
    let (mut spire, spire_folder) = match spire {
        Some((side, folder)) => (Some(side), Some(folder)),
        None => (None, None),
    };
    begin(spire.as_deref_mut(), ours).await;
    programs(table, spire.as_deref(), ours);
    restarts::starts(table, spire.as_deref_mut(), ours).await;
    memory::idle(table, spire.as_deref(), ours).await;
    memory::streams(table, spire.as_deref_mut(), ours).await;

    calls(table, folder, spire.as_deref(), ours, each).await;
    server::mint(table, spire.as_deref(), ours, each).await;

    // SPIRE's agent looks every five seconds: a few rounds of it take a minute.
    let (mut theirs, mut seen) = (Seen::default(), Seen::default());
    for _ in 0..5 {
        delivery::watch_changes(ours, 20, &mut seen).await;
        if let Some(spire) = &spire {
            delivery::watch_changes(spire, 1, &mut theirs).await;
        }
    }
    delivery::told(table, "", spire.as_ref().map(|_| theirs), None, seen);
    restarts::without_server(table, spire.as_deref_mut(), ours).await;

    let program = Program::make(folder);
    let without_hash = program.measure_without_hash(ours, each).await;
    if let (Some(spire), Some(folder)) = (spire.as_deref_mut(), spire_folder) {
        spire.agent.stop();
        spire
            .agent
            .arguments(spire::run_agent(folder, Executables::Measured));
        spire.start_agent().await;
    }
    let mut sides: Vec<&mut Side> = spire.as_deref_mut().into_iter().chain([&mut *ours]).collect();
    let did = program.measure(&mut sides, each).await;
    hashed(table, did, without_hash);
    if let (Some(spire), Some(folder)) = (spire.as_deref_mut(), spire_folder) {
        spire.agent.stop();
        spire
            .agent
            .arguments(spire::run_agent(folder, Executables::Ignored));
        spire.start_agent().await;
    }
    many_entries(table, spire, ours).await;
}

/// Starts the daemons of both sides, and has this process known to them.
async fn begin(spire: Option<&mut Side>, ours: &mut Side) {
    for side in spire.into_iter().chain([ours]) {
        side.server.start();
        side.server_answers().await;
        side.know_us().await;
        side.start_agent().await;
    }
}

/// What is measured by calls of the Workload API alone.
async fn calls(table: &mut Table, folder: &Path, spire: Option<&Side>, ours: &Side, each: Duration) {
    let canned = Canned::start(ours, folder.to_path_buf()).await;
    workload::Doors::of(spire, &canned, ours, each)
        .measure(table)
        .await;
    drop(canned);
}

fn programs(table: &mut Table, spire: Option<&Side>, ours: &Side) {
    memory::both(
        table,
        "size of the server's program, stripped",
        spire,
        ours,
        Budget::AtMost(25.0),
        |side| side.server.program_megabytes(),
    );
    memory::both(
        table,
        "size of the agent's program, stripped",
        spire,
        ours,
        Budget::AtMost(25.0),
        |side| side.agent.program_megabytes(),
    );
    let muster = std::fs::metadata(muster_tests::binary("muster")).unwrap().len() as f64 / 1e6;
    memory::add(
        table,
        "size of the operator's command, stripped",
        Unit::Megabytes,
        &[muster],
        Budget::AtMost(40.0),
    );
}

/// What is promised is that the hash costs us nothing: held against the same program known without it, with a twentieth for noise.
fn hashed(table: &mut Table, mut did: Vec<Did>, without_hash: Did) {
    const NOISE: f64 = 0.05;
    let ours = did.pop();
    let did = [did.pop(), None, ours];
    let least = Budget::AtLeast(without_hash.per_second * (1.0 - NOISE));
    let most = Budget::AtMost(without_hash.cpu_us[0] * (1.0 + NOISE));
    let without = [None, None, Some(without_hash)];
    let what = "FetchX509SVID of a program of 16 MB known without its hash, 16 callers";
    workload::rate(table, what, &without, Budget::None);
    workload::cpu(table, "its CPU time in the agent", &without, 0, Budget::None);
    workload::rate(table, "the same known by its hash", &did, least);
    workload::cpu(table, "its CPU time in the agent", &did, 0, most);
}

/// A large registry: 20,000 entries on both sides, then 100,000 on ours (SPIRE would need five minutes for them).
async fn many_entries(table: &mut Table, spire: Option<&mut Side>, ours: &mut Side) {
    let mut theirs = None;
    if let Some(spire) = &spire {
        theirs = Some(server::fill(spire, 0, 20_000).await);
    }
    let filled = server::fill(ours, 0, 20_000).await;
    server::created(table, theirs, filled);
    memory::idle_cpu(table, spire.as_deref(), ours, Duration::from_secs(30)).await;

    server::fill(ours, 20_000, 80_000).await;
    let (mut theirs, mut seen) = (Seen::default(), Seen::default());
    if let Some(spire) = &spire {
        delivery::watch_changes(spire, 2, &mut theirs).await;
    }
    delivery::watch_changes(ours, 100, &mut seen).await;
    let at_twenty = Some("20,000");
    let theirs = spire.as_ref().map(|_| theirs);
    delivery::told(table, " among 100,000 entries", theirs, at_twenty, seen);

    let megabytes = spire.as_ref().map(|side| side.server.megabytes());
    memory::remarked(
        table,
        "memory of the server, 100,000 entries",
        Unit::Megabytes,
        megabytes,
        ours.server.megabytes(),
        Budget::AtMost(150.0),
    );
    let megabytes = spire.as_ref().map(|side| side.agent.megabytes());
    memory::remarked(
        table,
        "memory of the agent, 100,000 entries of its node",
        Unit::Megabytes,
        megabytes,
        ours.agent.megabytes(),
        Budget::None,
    );
    let theirs = match spire {
        Some(spire) => Some(restarts::server(spire, 1).await),
        None => None,
    };
    let started = restarts::server(ours, 3).await;
    memory::remarked(
        table,
        "server started → its first answer, 100,000 entries",
        Unit::Millis,
        theirs,
        started,
        Budget::AtMost(1_000.0),
    );
}
