//! What workloads get from the agent: many identities at once, tokens, bundles.

use muster_tests::{Settings, Workload, spire_is_here, until};

use super::Joined;

const TEN: [&str; 10] = ["/1", "/2", "/3", "/4", "/5", "/6", "/7", "/8", "/9", "/10"];

#[test]
fn a_workload_with_ten_identities_gets_all_from_a_cache_of_eight() {
    if !spire_is_here() {
        return;
    }
    let joined = Joined::start_with(
        &Settings::default(),
        "x509_svid_cache_max_size = 8\n  jwt_svid_cache_max_size = 8",
    );
    for path in TEN {
        joined.register(path, &[]);
    }
    joined.until_ids("ten identities", &TEN);
    until("a cache of eight again", || {
        joined.counted("cached_x509_svids_count") == 8
    });

    let tokens = Workload::Rust
        .start_at(&joined.agent.endpoint(), None, &["fetch-jwt", "db"])
        .event("jwt");
    assert_eq!(tokens["svids"].as_array().unwrap().len(), 10, "{tokens}");
    // What it says of itself is up to five seconds old.
    until("a cache of eight tokens", || {
        joined.counted("cached_jwt_svids_count") == 8
    });
}

#[test]
fn tokens_of_our_server_are_valid_to_the_agent_and_to_no_other_audience() {
    if !spire_is_here() {
        return;
    }
    let joined = Joined::start(&Settings::default());
    joined.register("/caller", &["-jwtSVIDTTL", "60"]);
    joined.until_ids("the identity", &["/caller"]);
    for client in [Workload::Rust, Workload::Go]
        .into_iter()
        .filter(|client| client.is_here())
    {
        let ask = |args: &[&str]| client.start_at(&joined.agent.endpoint(), None, args);
        let fetched = ask(&["fetch-jwt", "db", "cache"]).event("jwt");
        let token = fetched["svids"][0]["token"].as_str().unwrap();
        for audience in ["db", "cache"] {
            let valid = ask(&["validate-jwt", audience, token]).event("valid");
            assert_eq!(valid["id"], "spiffe://example.org/caller", "{client:?}");
        }
        ask(&["validate-jwt", "other", token]).event("error");
        let bundles = ask(&["fetch-jwt-bundles"]).event("jwt-bundles");
        assert_eq!(bundles["bundles"][0]["trust_domain"], "example.org");
    }
}

#[test]
fn unchanged_clients_talk_to_each_other_with_what_they_got() {
    if !spire_is_here() || !Workload::Go.is_here() {
        return;
    }
    let joined = Joined::start(&Settings::default());
    joined.register("/peer", &[]);
    joined.until_ids("the identity", &["/peer"]);
    let peer = "spiffe://example.org/peer";
    let start = |args: &[&str]| Workload::Go.start_at(&joined.agent.endpoint(), None, args);
    let server = start(&["serve", "127.0.0.1:0", peer]);
    let address = server.event("listening")["addr"].as_str().unwrap().to_owned();
    let dialed = start(&["dial", &address, peer, "20"]).event("dialed");
    assert_eq!(
        (&dialed["ok"], &dialed["failed"]),
        (&20.into(), &0.into()),
        "{dialed}"
    );
}
