//! Either side goes away and comes back.

use std::fs;

use muster_tests::{SpireSettings, Workload, spire_is_here, until};

use super::{Joined, paths, serial};

#[test]
fn our_agent_serves_while_its_spire_server_is_away_and_after_a_restart_of_its_own() {
    if !spire_is_here() {
        return;
    }
    let mut joined = Joined::start(&SpireSettings::default(), "");
    let empty = fs::metadata(joined.agent.kept()).map_or(0, |file| file.len());
    joined.register("/kept", &[]);
    let watching = joined.agent.watching("the identity", |paths| paths == ["/kept"]);
    let before = watching.event_where("the identity", |event| paths(event) == ["/kept"]);
    // It is written behind: a kill before that would only show the server's absence.
    until("the copy on disk", || {
        fs::metadata(joined.agent.kept()).is_ok_and(|file| file.len() > empty + 500)
    });
    joined.server.take().kill();
    joined.agent.take().kill();
    joined.agent.start();
    let watching = joined.agent.client(Workload::Rust, &["watch-x509"]);
    let after = watching.event("x509");
    assert_eq!(serial(&after, "/kept"), serial(&before, "/kept"));

    joined.server.start_again();
    joined.register("/later", &[]);
    watching.event_where("both identities", |event| paths(event) == ["/kept", "/later"]);
    // What was held was the same server's: nothing was fetched or signed anew for a restart.
    let said = joined.agent.process().said();
    assert!(said.contains("connected to a SPIRE server"), "{said}");
}

#[test]
fn our_agent_forgets_an_entry_that_was_deleted_while_it_was_down() {
    if !spire_is_here() {
        return;
    }
    let mut joined = Joined::start(&SpireSettings::default(), "");
    let entry = joined.register("/gone", &[]);
    joined.agent.watching("the identity", |paths| paths == ["/gone"]);
    joined.agent.take().stop();
    joined.server.tool().ok(&["entry", "delete", "-entryID", &entry]);
    joined.agent.start();
    let watching = joined.agent.client(Workload::Rust, &["watch-x509"]);
    assert_eq!(watching.event("error")["code"], "PermissionDenied");
}
