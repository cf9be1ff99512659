//! Two trust domains, each with a server, a node agent and a bundle endpoint.

use std::{collections::BTreeSet, fs};

use muster_tests::{Cluster, Process, Settings, Web, Workload};
use serde_json::Value;

use super::domain::Domain;

/// The second trust domain.
pub(super) const OTHER: &str = "other.example";
/// An endpoint that shows the server's SVID.
pub(super) const SPIFFE_ENDPOINT: &str =
    "[federation]\nallow_loopback = true\n[federation.endpoint]\nlisten = \"127.0.0.1:0\"\n";

/// An endpoint that shows the certificate of `web`, on a server that believes its authority.
pub(super) fn web_endpoint(web: &Web) -> String {
    format!(
        "[federation]\nallow_loopback = true\nca_file = \"{}\"\n[federation.endpoint]\nlisten = \"127.0.0.1:0\"\nprofile = \"https_web\"\ncertificate = \"{}\"\nkey = \"{}\"\n",
        web.ca_file().display(),
        web.path("cert.pem").display(),
        web.path("key.pem").display(),
    )
}

/// An endpoint that shows the server's SVID, on a server that believes the authority of `web`.
pub(super) fn believing(web: &Web) -> String {
    format!(
        "[federation]\nallow_loopback = true\nca_file = \"{}\"\n[federation.endpoint]\nlisten = \"127.0.0.1:0\"\n",
        web.ca_file().display()
    )
}

/// Settings whose text was made by the story.
pub(super) fn settings(server: String) -> Settings {
    Settings {
        server: Box::leak(server.into_boxed_str()),
        ..Settings::default()
    }
}

/// Both domains, `example.org` first; who verifies whom is for the story.
pub(super) fn pair(first: &Settings, second: &Settings) -> [Cluster; 2] {
    [Cluster::start(first), Cluster::start_of(OTHER, second)]
}

/// `follower` follows the bundle of `followed` from its endpoint.
pub(super) fn follow(follower: &Cluster, followed: &dyn Domain, profile: &str) {
    let (name, url) = (followed.name(), followed.endpoint_url());
    let id = format!("spiffe://{name}/spire/server");
    let file = follower.path().join(format!("{name}.json"));
    let mut args = vec!["federation", "create", name, "--url", &url, "--profile", profile];
    let shown = file.display().to_string();
    if profile == "https_spiffe" {
        fs::write(&file, followed.document()).unwrap();
        args.extend(["--endpoint-id", &id, "--bundle", &shown]);
    }
    follower.muster_ok(&args);
    follower.muster_ok(&["federation", "refresh", name]);
}

/// How it stands with a peer.
pub(super) fn peer(cluster: &Cluster, name: &str) -> Value {
    let shown = cluster.muster_ok(&["federation", "show", name, "--output", "json"]);
    serde_json::from_str(&shown).unwrap()
}

/// An entry for whoever runs the story, which federates with `other`.
pub(super) fn register(cluster: &Cluster, path: &str, other: &str) -> String {
    let selector = format!("unix:uid:{}", nix::unistd::getuid());
    let mut entry = cluster.entry(path, &[&selector]);
    entry.federates_with = vec![other.to_owned()];
    cluster.register_entry(entry)
}

/// Waits until a watching workload's newest bundles are of exactly these trust domains.
pub(super) fn sees(watching: &Process, wanted: &[&str]) {
    watching.event_where(&format!("the bundles of {wanted:?}"), |event| {
        let bundles = event["bundles"].as_array();
        let names = bundles.map(|bundles| {
            let names = bundles
                .iter()
                .filter_map(|bundle| bundle["trust_domain"].as_str());
            names.collect::<BTreeSet<_>>()
        });
        names.is_some_and(|names| names.iter().eq(wanted))
    });
}

/// A token of `cluster`'s workload for `audience`.
pub(super) fn token(cluster: &Cluster, client: Workload, audience: &str) -> String {
    let event = client.start(cluster, &["fetch-jwt", audience]).event("jwt");
    event["svids"][0]["token"].as_str().unwrap().to_owned()
}
