//! Our server asks for a new connection when one has reached its age; SPIRE's agent makes it, and nobody notices.

use std::{collections::BTreeSet, fs};

use muster_tests::{Settings, Workload, spire_is_here};

use super::Joined;

/// The least age that there is.
const AGING: Settings = Settings {
    server: "[limits]\nconnection_age = \"10s\"\n",
    agent: "",
    before: None,
};

#[test]
fn an_agent_changes_aged_connections_to_our_server_without_a_gap() {
    if !spire_is_here() {
        return;
    }
    let joined = Joined::start(&AGING);
    joined.register("/steady", &[]);
    joined.until_ids("the identity", &["/steady"]);
    let watching = Workload::Rust.start_at(&joined.agent.endpoint(), None, &["watch-x509"]);
    watching.event("x509");
    let (mut connections, mut asked) = (BTreeSet::new(), 0);
    while connections.len() < 4 {
        asked += 1;
        // A token that is not held: it comes from the server, whatever the connection does meanwhile.
        let audience = format!("audience-{asked}");
        let jwt = Workload::Rust
            .start_at(&joined.agent.endpoint(), None, &["fetch-jwt", &audience])
            .event_where("an answer", |_| true);
        assert_eq!(jwt["event"], "jwt", "{jwt}");
        connections.extend(ports_to(&joined));
    }
    joined.register("/later", &[]);
    watching.event_where("both", |event| {
        assert_ne!(event["event"], "error", "{event}");
        event["svids"].as_array().is_some_and(|svids| svids.len() == 2)
    });
    println!(
        "figure: {asked} tokens over {} connections of SPIRE's agent",
        connections.len()
    );
}

/// The local ports of connections to our server that stand now. The agent alone has any.
fn ports_to(joined: &Joined) -> Vec<String> {
    let (_, port) = joined.cluster.server_address().rsplit_once(':').expect("a port");
    let server = format!(":{:04X}", port.parse::<u16>().unwrap());
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let standing = table.lines().filter_map(|line| {
        let [_, local, remote, state] = line.split_whitespace().take(4).collect::<Vec<_>>()[..] else {
            return None;
        };
        let stands = remote.ends_with(&server) && state == "01";
        stands.then(|| local.to_owned())
    });
    standing.collect()
}
