//! Leaves of seconds and an authority of a minute and a half: the agent follows without a gap.

use std::collections::BTreeSet;

use muster_identity::UnixTime;
use muster_pki::x509::X509Authority;
use muster_tests::{Settings, Turn, Workload, spire_is_here};

use super::Joined;

/// The authority's successor is made after 48 s and signs after 80 s. The agent looks at its own certificate every five seconds.
const FAST: Settings = Settings {
    server: "[ca]\nlifetime = \"96s\"\nx509_svid = \"16s\"\nmax_x509_svid = \"16s\"\njwt_svid = \"5s\"\nmax_jwt_svid = \"5s\"\nnode = \"16s\"\n",
    agent: "",
    before: None,
};

#[test]
fn an_agent_follows_leaves_of_seconds_and_a_new_authority() {
    if !spire_is_here() {
        return;
    }
    let _alone = Turn::alone();
    let joined = Joined::start(&FAST);
    let authorities = || -> Vec<_> {
        let held = joined.cluster.bundle().x509_authorities;
        held.iter()
            .map(|held| X509Authority::from_der(&held.asn1).unwrap())
            .collect()
    };
    let first_ends = authorities()
        .iter()
        .map(|authority| authority.validity().not_after)
        .max()
        .unwrap();
    let tool = joined.home().tool();
    let node_serial = || {
        let shown = tool.run(&["agent", "show", "-spiffeID", &joined.node]);
        shown.field("Serial number").unwrap().to_owned()
    };
    joined.register("/rotating", &[]);
    joined.until_ids("the identity", &["/rotating"]);
    let mut nodes = BTreeSet::from([node_serial()]);
    let watching = Workload::Rust.start_at(&joined.agent.endpoint(), None, &["watch-x509"]);
    let (mut leaves, mut valid_until) = (BTreeSet::new(), UnixTime::EPOCH);
    while leaves.len() < 7 || valid_until <= first_ends {
        let update = watching.event("x509");
        leaves.insert(update["svids"][0]["serial"].as_str().unwrap().to_owned());
        valid_until = UnixTime::from_secs(update["svids"][0]["not_after"].as_i64().unwrap());
        nodes.insert(node_serial());
    }
    println!(
        "figure: SPIRE's agent followed {} leaves, {} certificates of its own and 2 authorities",
        leaves.len(),
        nodes.len()
    );
    assert!(nodes.len() >= 4, "{nodes:?}");
    // What it hands out now is of an authority that was not there when it joined.
    joined.until_ids("the identity still", &["/rotating"]);
}
