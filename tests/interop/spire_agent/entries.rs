//! Entries come, change and go under a running agent.

use muster_tests::{Settings, Workload, spire_is_here, until};

use super::Joined;

#[test]
fn an_entry_that_comes_changes_and_goes_reaches_workloads() {
    if !spire_is_here() {
        return;
    }
    let joined = Joined::start(&Settings::default());
    let tool = joined.home().tool();
    joined.register("/first", &[]);
    joined.until_ids("the first entry", &["/first"]);
    let watching = Workload::Rust.start_at(&joined.agent.endpoint(), None, &["watch-x509"]);
    let second = joined.register("/second", &["-hint", "before"]);
    watching.event_where("both", |event| hint_of(event, "/second") == Some("before"));

    let uid = super::uid_selector();
    tool.ok(&[
        "entry",
        "update",
        "-entryID",
        &second,
        "-parentID",
        &joined.node,
        "-spiffeID",
        "spiffe://example.org/second",
        "-selector",
        &uid,
        "-hint",
        "after",
        "-dns",
        "second.example.org",
    ]);
    watching.event_where("the change", |event| hint_of(event, "/second") == Some("after"));
    if Workload::Go.is_here() {
        // The hint is the agent's own to hand out; the name is in a certificate that the server made anew.
        let fetched = Workload::Go
            .start_at(&joined.agent.endpoint(), None, &["fetch-x509"])
            .event("x509");
        assert!(fetched.to_string().contains("second.example.org"), "{fetched}");
    }

    tool.ok(&["entry", "delete", "-entryID", &second]);
    watching.event_where("the end of the second", |event| {
        event["svids"].as_array().is_some_and(|svids| svids.len() == 1)
    });
    let first = tool.run(&["entry", "show", "-spiffeID", "spiffe://example.org/first"]);
    tool.ok(&["entry", "delete", "-entryID", first.field("Entry ID").unwrap()]);
    assert_eq!(watching.event("error")["code"], "PermissionDenied");
}

#[test]
fn entries_below_a_workload_reach_the_agent_that_has_the_workload() {
    if !spire_is_here() {
        return;
    }
    let joined = Joined::start(&Settings::default());
    let tool = joined.home().tool();
    joined.register("/parent", &[]);
    let uid = super::uid_selector();
    let child = |path: &str, parent: &str| {
        let (id, parent) = (
            format!("spiffe://example.org{path}"),
            format!("spiffe://example.org{parent}"),
        );
        tool.ok(&[
            "entry",
            "create",
            "-parentID",
            &parent,
            "-spiffeID",
            &id,
            "-selector",
            &uid,
        ]);
    };
    child("/child", "/parent");
    child("/grandchild", "/child");
    child("/elsewhere", "/nobody");
    joined.until_ids("the chain", &["/parent", "/child", "/grandchild"]);
}

#[test]
fn an_svid_that_is_not_to_be_fetched_ahead_is_signed_at_the_first_call() {
    if !spire_is_here() {
        return;
    }
    let joined = Joined::start(&Settings::default());
    let tool = joined.home().tool();
    let register = |path: &str, selector: &str, more: &[&str]| {
        let id = format!("spiffe://example.org{path}");
        let mut args = vec![
            "entry",
            "create",
            "-parentID",
            &joined.node,
            "-spiffeID",
            &id,
            "-selector",
            selector,
        ];
        args.extend(more);
        tool.ok(&args);
    };
    register("/lazy", &super::uid_selector(), &["-disableX509SVIDPrefetch"]);
    register("/eager", "unix:uid:4000000", &[]);
    until("the other entry's SVID", || {
        joined.counted("cached_x509_svids_count") == 1
    });
    joined.until_ids("its own", &["/lazy"]);
    until("both SVIDs", || joined.counted("cached_x509_svids_count") == 2);
}

fn hint_of<'a>(event: &'a serde_json::Value, path: &str) -> Option<&'a str> {
    let svids = event["svids"].as_array()?;
    let svid = svids
        .iter()
        .find(|svid| svid["id"] == format!("spiffe://example.org{path}"))?;
    svid["hint"].as_str()
}
