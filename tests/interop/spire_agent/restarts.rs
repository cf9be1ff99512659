//! Either side is restarted.

use muster_tests::{Settings, Workload, spire_is_here};

use super::Joined;

#[test]
fn an_agent_serves_on_while_the_server_is_away_and_follows_it_again() {
    if !spire_is_here() {
        return;
    }
    let mut joined = Joined::start(&Settings::default());
    joined.register("/before", &[]);
    joined.until_ids("the identity", &["/before"]);
    joined.cluster.take_server().kill();
    joined.until_ids("what it holds", &["/before"]);
    joined.cluster.start_server();
    joined.register("/after", &[]);
    joined.until_ids("what came since", &["/before", "/after"]);
    let tokens = Workload::Rust
        .start_at(&joined.agent.endpoint(), None, &["fetch-jwt", "db"])
        .event("jwt");
    assert_eq!(tokens["svids"].as_array().unwrap().len(), 2, "{tokens}");
}

#[test]
fn an_agent_comes_back_by_what_it_kept() {
    if !spire_is_here() {
        return;
    }
    let mut joined = Joined::start(&Settings::default());
    joined.register("/workload", &[]);
    joined.until_ids("the identity", &["/workload"]);
    for round in 0..2 {
        let agent = joined.agent.take();
        if round == 0 {
            agent.stop();
        } else {
            agent.kill();
        }
        joined.agent.start(&[]);
        joined.until_ids("the identity again", &["/workload"]);
    }
    let count = joined.home().tool().ok(&["agent", "count"]);
    assert_eq!(count, "1 attested agent\n");
}
