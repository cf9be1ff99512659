//! Entries come, change and go; many come by pages.

use muster_tests::{SpireSettings, Workload, spire_is_here};
use serde_json::json;

use super::{Joined, paths, serial, uid_selector};

#[test]
fn our_agent_joins_a_spire_server_and_unchanged_clients_get_what_they_earned() {
    if !spire_is_here() {
        return;
    }
    let joined = Joined::start(&SpireSettings::default(), "");
    joined.register("/web", &["-dns", "web.example.org", "-hint", "internal"]);
    let agent = &joined.agent;
    agent.watching("the identity", |paths| paths == ["/web"]);
    for client in Workload::ALL.into_iter().filter(|client| client.is_here()) {
        let watching = agent.client(client, &["watch-x509"]);
        let event = watching.event_where("the identity", |event| paths(event) == ["/web"]);
        assert_eq!(event["bundles"][0]["trust_domain"], "example.org", "{client:?}");
        let jwt = agent.client(client, &["fetch-jwt", "db"]).event("jwt");
        assert_eq!(jwt["svids"][0]["id"], "spiffe://example.org/web", "{client:?}");
        let token = jwt["svids"][0]["token"].as_str().unwrap();
        let valid = agent
            .client(client, &["validate-jwt", "db", token])
            .event("valid");
        assert_eq!(valid["id"], "spiffe://example.org/web", "{client:?}");
    }
    // Its one PostStatus comes after the first poll.
    muster_tests::until("the version", || {
        joined.shown("Agent version").as_deref() == Some(env!("CARGO_PKG_VERSION"))
    });
    assert_eq!(joined.shown("Attestation type").as_deref(), Some("join_token"));
}

#[test]
fn our_agent_follows_an_entry_that_is_changed_and_deleted_on_a_spire_server() {
    if !spire_is_here() {
        return;
    }
    let joined = Joined::start(&SpireSettings::default(), "");
    let tool = joined.server.tool();
    let entry = joined.register("/first", &[]);
    let watching = joined.agent.watching("the identity", |paths| paths == ["/first"]);
    let before = watching.event_where("the identity", |event| paths(event) == ["/first"]);

    // What the agent does not see of an entry, its names and lifetimes, is in the certificate all the same.
    let uid = uid_selector();
    let update = |id: &str, more: &[&str]| {
        let id = format!("spiffe://example.org{id}");
        let mut args = vec![
            "entry",
            "update",
            "-entryID",
            &entry,
            "-parentID",
            &joined.agent.node,
            "-spiffeID",
            &id,
            "-selector",
            &uid,
        ];
        args.extend(more);
        tool.ok(&args);
    };
    update("/first", &["-dns", "first.example.org"]);
    let (old, new) = (serial(&before, "/first"), |event: &serde_json::Value| {
        (paths(event) == ["/first"]).then(|| serial(event, "/first"))
    });
    watching.event_where("a certificate with the name", |event| {
        new(event).is_some_and(|serial| serial != old)
    });
    update("/renamed", &[]);
    watching.event_where("the new name", |event| paths(event) == ["/renamed"]);
    joined.register("/second", &[]);
    watching.event_where("both", |event| paths(event) == ["/renamed", "/second"]);
    tool.ok(&["entry", "delete", "-entryID", &entry]);
    watching.event_where("the second alone", |event| paths(event) == ["/second"]);
}

#[test]
fn our_agent_takes_twelve_hundred_entries_of_a_spire_server_by_pages() {
    if !spire_is_here() {
        return;
    }
    // Every entry matches this user: what the client is given is what came.
    let joined = Joined::start(&SpireSettings::default(), "[svids]\nprefetch = 2000\n");
    let uid = uid_selector();
    let entries: Vec<_> = (0..1_200)
        .map(|number| {
            json!({
                "parent_id": joined.agent.node, "spiffe_id": format!("spiffe://example.org/numbered/{number}"),
                "selectors": [
                    { "type": "unix", "value": uid.trim_start_matches("unix:") },
                ],
            })
        })
        .collect();
    let file = json!({ "entries": entries }).to_string();
    let said = joined
        .server
        .tool()
        .run_with(&["entry", "create", "-data", "-"], &file);
    assert_eq!(said.status, Some(0), "{}", said.err);
    let watching = joined
        .agent
        .watching("an SVID of each entry", |paths| paths.len() == 1_200);
    watching.event_where("all of them", |event| paths(event).len() == 1_200);
    let last = joined.register("/last", &[]);
    watching.event_where("one more", |event| paths(event).len() == 1_201);
    joined.server.tool().ok(&["entry", "delete", "-entryID", &last]);
    watching.event_where("its end", |event| paths(event).len() == 1_200);
}
