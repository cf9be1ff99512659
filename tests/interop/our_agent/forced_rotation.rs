//! An authority is tainted and then revoked: what it signed is made again in time.

use muster_tests::{SpireSettings, spire_is_here, until};

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
