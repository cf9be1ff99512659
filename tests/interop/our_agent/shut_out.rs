//! A ban takes everything at once; an eviction nothing that is valid.

use muster_tests::{SpireSettings, Workload, spire_is_here};

use super::{Joined, paths, serial};

#[test]
fn our_agent_serves_nothing_after_a_spire_server_has_banned_it() {
    if !spire_is_here() {
        return;
    }
    let joined = Joined::start(&SpireSettings::default(), "");
    joined.register("/banned", &[]);
    let agent = &joined.agent;
    let watching = agent.watching("the identity", |paths| paths == ["/banned"]);
    watching.event_where("the identity", |event| paths(event) == ["/banned"]);
    joined
        .server
        .tool()
        .ok(&["agent", "ban", "-spiffeID", &agent.node]);
    assert_eq!(watching.event("error")["code"], "PermissionDenied");
    let refused = agent.client(Workload::Rust, &["fetch-jwt", "db"]).event("error");
    assert_eq!(refused["code"], "PermissionDenied", "{refused}");
    agent
        .process()
        .line("the reason", |line| line.contains("this node is banned"));
}

#[test]
fn our_agent_serves_what_is_valid_after_an_eviction_and_everything_after_joining_again() {
    if !spire_is_here() {
        return;
    }
    let mut joined = Joined::start(&SpireSettings::default(), "");
    joined.register("/evicted", &[]);
    let fetched = |joined: &Joined| {
        let watching = joined.agent.watching("an identity", |paths| !paths.is_empty());
        let event = watching.event_where("an identity", |event| !paths(event).is_empty());
        (paths(&event), event)
    };
    let (_, before) = fetched(&joined);
    let node = joined.agent.node.clone();
    joined.server.tool().ok(&["agent", "evict", "-spiffeID", &node]);
    joined.agent.process().line("what is to be done", |line| {
        line.contains("an operator must join it again")
    });
    let (_, after) = fetched(&joined);
    assert_eq!(serial(&after, "/evicted"), serial(&before, "/evicted"));

    joined.agent.take().stop();
    let home = joined.server.home();
    joined.agent.join_again(&home, &home.address, &["--replace"]);
    joined.agent.start();
    joined.register("/again", &[]);
    assert_eq!(fetched(&joined).0, ["/again"]);
}

#[test]
fn our_agent_does_not_join_a_spire_server_by_a_used_token_or_another_bundle() {
    if !spire_is_here() {
        return;
    }
    let mut joined = Joined::start(&SpireSettings::default(), "");
    joined.agent.take().stop();
    let address = joined.server.home().address;
    let token = joined.agent.node.rsplit('/').next().unwrap().to_owned();
    let again = joined.agent.try_to_join(&address, &token, &["--replace"]);
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert_eq!(again.status.code(), Some(1), "{said}");
    assert!(said.contains("does not exist or has already been used"), "{said}");

    let other = muster_tests::SpireServer::start(&SpireSettings::default());
    let misled = joined
        .agent
        .try_to_join(&other.home().address, "token", &["--replace"]);
    let said = String::from_utf8_lossy(&misled.stderr).into_owned();
    assert!(
        !misled.status.success() && said.contains("invalid peer certificate"),
        "{said}"
    );
}
