//! A black-box client for the figures that we promise: it starts a server and a node agent as an operator would, asks
//! from outside, and prints what it saw. Nothing is asserted: a shared machine would make that a lie.
//!
//! `bench [--seconds N]`: how long each rate is measured, 5 by default.

#![expect(
    clippy::unwrap_used,
    reason = "a measurement that can't be made stops by a panic"
)]

mod figures;
mod server;
mod workload;

use std::time::Duration;

use muster_tests::{Cluster, Settings};

use self::figures::Figures;

fn main() {
    let mut seconds = 5;
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match (arg.as_str(), args.next()) {
            ("--seconds", Some(value)) => seconds = value.parse().unwrap(),
            _ => panic!("usage: bench [--seconds N]"),
        }
    }
    let cluster = Cluster::start(&Settings::default());
    let figures = Figures::of(&cluster, Duration::from_secs(seconds));
    figures.line(
        "memory: server idle",
        format!("{:.1} MB", figures.server_megabytes()),
    );
    figures.line(
        "memory: agent idle",
        format!("{:.1} MB", figures.agent_megabytes()),
    );
    cluster.register("/bench", &[&format!("unix:uid:{}", nix::unistd::getuid())]);
    cluster.block_on(async {
        workload::fetch_on_open_connections(&figures).await;
        workload::fetch_on_new_connections(&figures).await;
        workload::fetch_jwt(&figures).await;
        server::mint(&figures).await;
        server::create_to_stream(&figures).await;
        workload::open_streams(&figures).await;
        server::create_entries(&figures).await;
    });
    figures.line(
        "memory: server with the entries of this run",
        format!("{:.1} MB", figures.server_megabytes()),
    );
}
