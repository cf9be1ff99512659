//! SPIRE's servers end each connection after three minutes.

use std::time::{Duration, Instant};

use muster_tests::{SpireSettings, Workload, spire_is_here};

use super::{Joined, paths};

#[test]
fn our_agent_changes_an_aged_connection_to_a_spire_server_without_a_gap() {
    if !spire_is_here() {
        return;
    }
    let joined = Joined::start(&SpireSettings::default(), "[log]\nlevel = \"debug\"\n");
    joined.register("/steady", &[]);
    let agent = &joined.agent;
    let watching = agent.watching("the identity", |paths| paths == ["/steady"]);
    watching.event_where("the identity", |event| paths(event) == ["/steady"]);
    let changed = || {
        let said = agent.process().said();
        assert!(!said.contains("no connection to the server"), "{said}");
        said.contains("on with the next")
    };
    // The age has a tenth of jitter and a time of grace.
    let give_up = Instant::now() + Duration::from_secs(240);
    let mut asked = 0;
    while !changed() {
        assert!(Instant::now() < give_up, "the server ended no connection");
        asked += 1;
        let audience = format!("audience-{asked}");
        // A token that is not held: it comes from the server, whatever the connection does meanwhile.
        let jwt = agent
            .client(Workload::Rust, &["fetch-jwt", &audience])
            .event_where("an answer", |_| true);
        assert_eq!(jwt["event"], "jwt", "{jwt}");
    }
    joined.register("/later", &[]);
    watching.event_where("both", |event| paths(event) == ["/later", "/steady"]);
}
