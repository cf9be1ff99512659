//! SPIRE's agent, unchanged, on our server.

mod connection_age;
mod entries;
mod forced_rotation;
mod joining;
mod many_entries;
mod restarts;
mod rotation;
mod shut_out;
mod svids;
mod upstream_rotation;

use std::collections::BTreeSet;

use muster_tests::{Cluster, Home, Settings, SpireAgent, Workload, until};

/// Our server with SPIRE's agent on it. Workloads are unchanged clients.
pub(crate) struct Joined {
    // Ended before its server.
    pub(crate) agent: SpireAgent,
    pub(crate) node: String,
    pub(crate) cluster: Cluster,
}

impl Joined {
    /// Starts our server, and SPIRE's agent as one that joins by token.
    pub(crate) fn start(settings: &Settings) -> Self {
        Self::start_with(settings, "")
    }

    /// The same with more lines for the agent's configuration.
    pub(crate) fn start_with(settings: &Settings, agent: &str) -> Self {
        let cluster = Cluster::start_server_only(settings);
        let home = cluster.home();
        let attestor = r#"NodeAttestor "join_token" { plugin_data {} }"#;
        let mut agent = SpireAgent::install_with(cluster.path(), "spire-agent", &home, agent, attestor);
        let node = agent.join(&home, None);
        Self { agent, node, cluster }
    }

    pub(crate) fn home(&self) -> Home {
        self.cluster.home()
    }

    /// Registers `path` below the node for callers of this user, by SPIRE's command; returns the entry's id.
    pub(crate) fn register(&self, path: &str, more: &[&str]) -> String {
        let (uid, id) = (uid_selector(), format!("spiffe://example.org{path}"));
        let mut args = vec![
            "entry",
            "create",
            "-parentID",
            &self.node,
            "-spiffeID",
            &id,
            "-selector",
            &uid,
        ];
        args.extend(more);
        let said = self.home().tool().run(&args);
        said.field("Entry ID")
            .unwrap_or_else(|| panic!("{said:?}"))
            .to_owned()
    }

    /// What an unchanged client gets now.
    pub(crate) fn ids(&self) -> BTreeSet<String> {
        ids(&self.agent)
    }

    /// Waits until an unchanged client gets exactly these.
    pub(crate) fn until_ids(&self, what: &str, paths: &[&str]) {
        let wanted: BTreeSet<_> = paths
            .iter()
            .map(|path| format!("spiffe://example.org{path}"))
            .collect();
        until(what, || self.ids() == wanted);
    }

    /// A number that the agent's `debug getinfo` says.
    pub(crate) fn counted(&self, name: &str) -> u64 {
        let said = self
            .agent
            .admin_tool()
            .ok(&["debug", "getinfo", "-output", "json"]);
        let said: serde_json::Value = serde_json::from_str(&said).unwrap();
        said[name].as_u64().unwrap_or_default()
    }
}

/// The SPIFFE IDs that an unchanged client of this user gets; none when it is refused.
pub(crate) fn ids(agent: &SpireAgent) -> BTreeSet<String> {
    let fetched = Workload::Rust.start_at(&agent.endpoint(), None, &["fetch-x509"]);
    let said = fetched.event_where("an answer", |_| true);
    let svids = said["svids"].as_array().cloned().unwrap_or_default();
    svids
        .iter()
        .map(|svid| svid["id"].as_str().unwrap().to_owned())
        .collect()
}

pub(crate) fn uid_selector() -> String {
    format!("unix:uid:{}", nix::unistd::getuid())
}
