//! Joining by token, and what the server then knows of the node.

use muster_tests::{Cluster, Settings, SpireAgent, spire_is_here, until};

use super::{Joined, ids, uid_selector};

#[test]
fn an_agent_joins_by_token_and_says_its_version() {
    if !spire_is_here() {
        return;
    }
    let joined = Joined::start(&Settings::default());
    let tool = joined.home().tool();
    let shown = || tool.run(&["agent", "show", "-spiffeID", &joined.node]);
    // Its one PostStatus comes after the first look at its entries.
    until("the version", || shown().field("Agent version") == Some("1.15.3"));
    let shown = shown();
    assert_eq!(shown.field("Attestation type"), Some("join_token"), "{shown:?}");
    assert_eq!(shown.field("Can re-attest"), Some("false"), "{shown:?}");
}

#[test]
fn a_token_is_good_for_one_agent_and_its_name_is_a_parent() {
    if !spire_is_here() {
        return;
    }
    let cluster = Cluster::start_server_only(&Settings::default());
    let home = cluster.home();
    let mut agent = SpireAgent::install(cluster.path(), "first", &home);
    let node = agent.join(&home, Some("spiffe://example.org/node"));
    let uid = uid_selector();
    home.tool().ok(&[
        "entry",
        "create",
        "-parentID",
        "spiffe://example.org/node",
        "-spiffeID",
        "spiffe://example.org/workload",
        "-selector",
        &uid,
    ]);
    until("the workload's identity", || {
        ids(&agent).contains("spiffe://example.org/workload")
    });

    let mut second = SpireAgent::install(cluster.path(), "second", &home);
    let token = node.rsplit('/').next().unwrap();
    second.spawn(&["-joinToken", token]);
    second.process().line("the refusal", |line| {
        line.contains("failed to attest: join token does not exist or has already been used")
    });
}

#[test]
fn an_agent_with_the_bundle_of_another_server_does_not_join() {
    if !spire_is_here() {
        return;
    }
    let (cluster, other) = (
        Cluster::start_server_only(&Settings::default()),
        Cluster::start_server_only(&Settings::default()),
    );
    let mut home = cluster.home();
    home.bundle = other.home().bundle;
    let mut agent = SpireAgent::install(cluster.path(), "misled", &home);
    let token = cluster.block_on(cluster.token());
    agent.spawn(&["-joinToken", &token]);
    agent.process().line("the doubt", |line| {
        line.contains("certificate signed by unknown authority")
    });
    assert_eq!(home.tool().ok(&["agent", "count"]), "0 attested agents\n");
}
