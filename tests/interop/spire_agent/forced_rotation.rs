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
    // In the moment in which the agent replaces what is tainted there may be nothing: one look is one call.
    let given = || {
        let fetched = Workload::Rust.start_at(&joined.agent.endpoint(), None, &["fetch-x509"]);
        fetched.event_where("an answer", |event| event["event"].is_string())
    };
    let first = given()["svids"][0]["serial"].clone();
    assert!(first.is_string());

    let old = rotate(&joined, "x509");
    until("an SVID of the new authority", || {
        let serial = &given()["svids"][0]["serial"];
        serial.is_string() && *serial != first
    });
    until("the node's own certificate anew", || node_serial() != before);
    tool.ok(&["localauthority", "x509", "revoke", "-authorityID", &old]);
    until("a bundle without the old authority", || {
        given()["bundles"][0]["authorities"] == 1
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
    let endpoint = joined.agent.endpoint();
    let token = || {
        let fetched = Workload::Rust.start_at(&endpoint, None, &["fetch-jwt", "db"]);
        let fetched = fetched.event("jwt");
        fetched["svids"][0]["token"].as_str().unwrap().to_owned()
    };
    let is_valid = |token: &str| {
        let judged = Workload::Rust.start_at(&endpoint, None, &["validate-jwt", "db", token]);
        judged.event_where("a verdict", |_| true)["event"] == "valid"
    };
    let kept = token();
    let first = kid(&kept);
    assert_eq!(kid(&token()), first);
    let old = rotate(&joined, "jwt");
    assert_eq!(old, first);
    until("a token of the new authority", || kid(&token()) != first);
    assert!(is_valid(&kept), "a tainted key is trusted still");
    let tool = joined.home().tool();
    tool.ok(&["localauthority", "jwt", "revoke", "-authorityID", &old]);
    until("the old token to be refused", || !is_valid(&kept));
    let next = token();
    assert!(kid(&next) != first && is_valid(&next));
}

/// Tokens that end soon: the command waits for as long as the longest lives.
const SHORT_TOKENS: Settings = Settings {
    server: "[ca]\njwt_svid = \"10s\"\nmax_jwt_svid = \"10s\"\n",
    agent: "",
    before: None,
};

#[test]
fn traffic_of_an_agents_workloads_goes_on_while_our_command_replaces_both_authorities() {
    if !spire_is_here() || !Workload::Go.is_here() {
        return;
    }
    let joined = Joined::start(&SHORT_TOKENS);
    joined.register("/peer", &[]);
    joined.until_ids("the identity", &["/peer"]);
    let endpoint = joined.agent.endpoint();
    let start = |args: &[&str]| Workload::Go.start_at(&endpoint, None, args);
    let peer = "spiffe://example.org/peer";
    let server = start(&["serve", "127.0.0.1:0", peer]);
    let address = server.event("listening")["addr"].as_str().unwrap().to_owned();
    let mut traffic = [
        ("dialed", start(&["dial", &address, peer, "100000000", "50"])),
        ("checked", start(&["tokens", "traffic", "50"])),
    ];
    // It can't see what SPIRE's agent holds, and gives it time.
    let rotated = joined.cluster.muster_ok(&["authority", "rotate", "--revoke"]);
    assert_eq!(rotated.matches("revoked").count(), 2, "{rotated}");
    let bundle = joined.cluster.bundle();
    let left = (bundle.x509_authorities.len(), bundle.jwt_authorities.len());
    assert_eq!(left, (1, 1));
    for (kind, client) in &mut traffic {
        for authorities in [2, 1] {
            client.event_where("both authorities, and then the new one alone", |event| {
                event["event"] == "holds" && event["authorities"] == authorities
            });
        }
        client.close_input();
        let counted = client.event(kind);
        println!("figure: {kind} {}, {} failed", counted["ok"], counted["failed"]);
        assert_eq!(counted["failed"], 0, "{counted}");
        assert!(counted["ok"].as_u64().unwrap() > 100, "{counted}");
    }
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
