//! Ban and evict, as `spire-server` orders them and SPIRE's agent obeys.

use muster_tests::{Settings, SpireAgent, spire_is_here, until};

use super::{Joined, ids};

#[test]
fn a_banned_agent_stops_and_cannot_come_back_until_it_is_evicted() {
    if !spire_is_here() {
        return;
    }
    let mut joined = Joined::start(&Settings::default());
    joined.register("/workload", &[]);
    joined.until_ids("the identity", &["/workload"]);
    let tool = joined.home().tool();
    let said = tool.ok(&["agent", "ban", "-spiffeID", &joined.node]);
    assert!(said.contains("Agent banned successfully"), "{said}");
    let mut agent = joined.agent.take();
    agent.line("its obedience", |line| {
        line.contains("Agent is banned: removing SVID and shutting down")
    });
    assert!(!agent.ended().success());
    let shown = tool.run(&["agent", "show", "-spiffeID", &joined.node]);
    assert_eq!(shown.field("Banned"), Some("true"), "{shown:?}");

    // It has nothing left but a token that was used.
    let token = joined.node.rsplit('/').next().unwrap().to_owned();
    joined.agent.spawn(&["-joinToken", &token]);
    assert!(!joined.agent.take().ended().success());

    tool.ok(&["agent", "evict", "-spiffeID", &joined.node]);
    joined.node = joined.agent.join(&joined.home(), None);
    joined.register("/workload", &[]);
    joined.until_ids("the identity again", &["/workload"]);
}

#[test]
fn an_evicted_agent_stops_and_joins_anew_with_a_new_token() {
    if !spire_is_here() {
        return;
    }
    let mut joined = Joined::start(&Settings::default());
    let mut other = SpireAgent::install(joined.cluster.path(), "other", &joined.home());
    other.join(&joined.home(), None);
    let tool = joined.home().tool();
    assert_eq!(tool.ok(&["agent", "count"]), "2 attested agents\n");
    let said = tool.ok(&["agent", "evict", "-spiffeID", &joined.node]);
    assert!(said.contains("Agent evicted successfully"), "{said}");
    let mut agent = joined.agent.take();
    agent.line("its obedience", |line| {
        line.contains("removing SVID and shutting down")
    });
    assert!(!agent.ended().success());
    assert_eq!(tool.ok(&["agent", "count"]), "1 attested agent\n");

    joined.node = joined.agent.join(&joined.home(), None);
    joined.register("/workload", &[]);
    joined.until_ids("the identity", &["/workload"]);
    // Nobody else noticed.
    until("the other agent's answer", || ids(&other).is_empty());
    assert!(other.process().said().contains("Starting agent APIs"));
}
