//! An authority is tainted and then revoked: what it signed is made again in time.

use std::process::Command;

use muster_tests::{SpireSettings, Workload, binary, spire_is_here, until};

use super::{Joined, paths, serial};

#[test]
fn our_agent_leaves_a_tainted_authority_of_a_spire_server_before_it_is_revoked() {
    if !spire_is_here() {
        return;
    }
    let joined = Joined::start(&SpireSettings::default(), "");
    joined.register("/steady", &[]);
    let watching = joined
        .agent
        .watching("the identity", |paths| paths == ["/steady"]);
    let first = watching.event_where("the identity", |event| paths(event) == ["/steady"]);
    let certificate = joined.shown("Serial number");

    let authority = |args: &[&str]| {
        let mut command = vec!["localauthority", "x509"];
        command.extend(args);
        let said = joined.server.tool().run(&command);
        assert_eq!(said.status, Some(0), "{said:?}");
        said.field("Authority ID")
            .expect("what the command prints")
            .to_owned()
    };
    let old = authority(&["show"]);
    let new = authority(&["prepare"]);
    authority(&["activate", "-authorityID", &new]);
    authority(&["taint", "-authorityID", &old]);
    let news = |event: &serde_json::Value, path: &str, before: &str| {
        assert_ne!(event["event"], "error", "{event}");
        paths(event).contains(&path.to_owned()) && serial(event, path) != before
    };
    let before = serial(&first, "/steady");
    watching.event_where("a certificate of the new one", |event| {
        news(event, "/steady", &before)
    });
    until("the node's own certificate of the new one", || {
        joined.shown("Serial number") != certificate
    });

    authority(&["revoke", "-authorityID", &old]);
    let only_one = |event: &serde_json::Value| event["bundles"][0]["authorities"] == 1;
    watching.event_where("the bundle without the old one", |event| {
        assert_ne!(event["event"], "error", "{event}");
        only_one(event)
    });
    joined.register("/later", &[]);
    watching.event_where("both", |event| {
        assert_ne!(event["event"], "error", "{event}");
        paths(event) == ["/later", "/steady"]
    });
}

#[test]
fn our_agent_refuses_tokens_of_a_key_that_a_spire_server_has_revoked() {
    if !spire_is_here() {
        return;
    }
    let joined = Joined::start(&SpireSettings::default(), "");
    joined.register("/steady", &[]);
    joined
        .agent
        .watching("the identity", |paths| paths == ["/steady"]);
    let tool = joined.server.tool();
    let authority = |args: &[&str]| {
        let said = tool.run(&[&["localauthority", "jwt"], args].concat());
        said.field("Authority ID")
            .unwrap_or_else(|| panic!("{said:?}"))
            .to_owned()
    };
    let kept = token(&joined);
    let old = authority(&["show"]);
    let new = authority(&["prepare"]);
    authority(&["activate", "-authorityID", &new]);
    authority(&["taint", "-authorityID", &old]);
    let mut next = kept.clone();
    until("a token of the new key", || {
        next = token(&joined);
        next != kept
    });
    assert!(is_valid(&joined, &kept), "a tainted key is trusted still");
    authority(&["revoke", "-authorityID", &old]);
    until("the old token to be refused", || !is_valid(&joined, &kept));
    assert!(is_valid(&joined, &next) && token(&joined) == next);
}

#[test]
fn our_command_replaces_the_authorities_of_a_spire_server_under_our_agent() {
    if !spire_is_here() || !Workload::Go.is_here() {
        return;
    }
    let joined = Joined::start(&SpireSettings::default(), "");
    joined.register("/steady", &[]);
    joined
        .agent
        .watching("the identity", |paths| paths == ["/steady"]);
    let kept = token(&joined);
    let mut checked = joined.agent.client(Workload::Go, &["tokens", "traffic", "100"]);
    checked.event("holds");
    let rotated = Command::new(binary("muster"))
        .args(["authority", "rotate", "--revoke", "--server"])
        .arg(joined.server.socket())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&rotated.stdout);
    assert!(rotated.status.success(), "{rotated:?}");
    assert_eq!(said.matches("revoked").count(), 2, "{said}");
    until("the old token to be refused", || !is_valid(&joined, &kept));
    checked.event_where("the new key alone", |event| {
        event["event"] == "holds" && event["authorities"] == 1
    });
    checked.close_input();
    let counted = checked.event("checked");
    assert_eq!(counted["failed"], 0, "{counted}");
    assert!(counted["ok"].as_u64().unwrap() > 100, "{counted}");
    joined.register("/later", &[]);
    until("both identities", || {
        let fetched = joined.agent.client(Workload::Rust, &["fetch-x509"]);
        paths(&fetched.event_where("an answer", |_| true)) == ["/later", "/steady"]
    });
}

fn token(joined: &Joined) -> String {
    let fetched = joined.agent.client(Workload::Rust, &["fetch-jwt", "db"]);
    let fetched = fetched.event("jwt");
    fetched["svids"][0]["token"].as_str().unwrap().to_owned()
}

fn is_valid(joined: &Joined, token: &str) -> bool {
    let judged = joined
        .agent
        .client(Workload::Rust, &["validate-jwt", "db", token]);
    judged.event_where("a verdict", |_| true)["event"] == "valid"
}
