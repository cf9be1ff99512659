//! Authorities that are tainted and revoked by SPIRE's commands: SPIRE's agent makes everything below them anew.

use base64::Engine as _;
use muster_tests::{Settings, Workload, spire_is_here, until};
use serde_json::Value;

use super::Joined;

#[test]
fn an_agent_makes_anew_what_a_tainted_x509_authority_signed() {
    if !spire_is_here() {
        return;
    }
    let joined = Joined::start(&Settings::default());
    let tool = joined.home().tool();
    joined.register("/workload", &[]);
    joined.until_ids("the identity", &["/workload"]);
    let node_serial = || {
        let shown = tool.run(&["agent", "show", "-spiffeID", &joined.node]);
        shown.field("Serial number").unwrap().to_owned()
    };
    let before = node_serial();
    let watching = Workload::Rust.start_at(&joined.agent.endpoint(), None, &["watch-x509"]);
    let first = watching.event("x509")["svids"][0]["serial"].clone();

    let old = rotate(&joined, "x509");
    watching.event_where("an SVID of the new authority", |event| {
        let serial = &event["svids"][0]["serial"];
        serial.is_string() && *serial != first
    });
    until("the node's own certificate anew", || node_serial() != before);
    tool.ok(&["localauthority", "x509", "revoke", "-authorityID", &old]);
    watching.event_where("a bundle without the old authority", |event| {
        event["bundles"][0]["authorities"] == 1
    });
    // The agent is still welcome, and so is what it fetches.
    joined.register("/later", &[]);
    joined.until_ids("what came since", &["/workload", "/later"]);
}

#[test]
fn an_agent_drops_tokens_of_a_tainted_jwt_authority() {
    if !spire_is_here() {
        return;
    }
    let joined = Joined::start(&Settings::default());
    joined.register("/workload", &[]);
    joined.until_ids("the identity", &["/workload"]);
    let fetch = || {
        let fetched = Workload::Rust
            .start_at(&joined.agent.endpoint(), None, &["fetch-jwt", "db"])
            .event("jwt");
        kid(fetched["svids"][0]["token"].as_str().unwrap())
    };
    let first = fetch();
    assert_eq!(fetch(), first);
    let old = rotate(&joined, "jwt");
    assert_eq!(old, first);
    until("a token of the new authority", || fetch() != first);
    let tool = joined.home().tool();
    tool.ok(&["localauthority", "jwt", "revoke", "-authorityID", &old]);
    assert_ne!(fetch(), first);
}

/// Prepares and activates a new authority and taints the old one, whose id is returned.
fn rotate(joined: &Joined, kind: &str) -> String {
    let tool = joined.home().tool();
    let show = tool.run(&["localauthority", kind, "show"]);
    let old = show.field("Authority ID").unwrap().to_owned();
    let prepared = tool.run(&["localauthority", kind, "prepare"]);
    let new = prepared.field("Authority ID").unwrap().to_owned();
    tool.ok(&["localauthority", kind, "activate", "-authorityID", &new]);
    tool.ok(&["localauthority", kind, "taint", "-authorityID", &old]);
    old
}

/// The key that a token names.
fn kid(token: &str) -> String {
    let header = token.split('.').next().unwrap();
    let header = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(header)
        .unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    header["kid"].as_str().unwrap().to_owned()
}
