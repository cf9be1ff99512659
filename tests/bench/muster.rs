//! Our side: installed and joined as a story does it, then run by us.

use muster_tests::{Cluster, Settings, binary};

use crate::{daemon::Daemon, side::Side};

/// Defaults, but for the signatures an address may ask for and the connections a user may hold: one user on one
/// machine stands for many. SPIRE gets the same.
const SETTINGS: Settings = Settings {
    server: "[limits]\nsigning = false\n",
    agent: "[workload]\nconnections_per_caller = 2048\n",
    before: None,
};

/// A server and an agent that ran already, and are stopped. The cluster owns their folder.
pub(crate) fn install() -> (Cluster, Side) {
    let mut cluster = Cluster::start(&SETTINGS);
    cluster.take_agent().stop();
    cluster.take_server().stop();
    let dir = cluster.path().to_path_buf();
    let daemon = |name: &str, config: &str| {
        let args = vec!["run".into(), "--config".into(), dir.join(config).into()];
        Daemon::new(binary(name), args, dir.join(name).with_extension("log"))
    };
    let side = Side {
        name: "Muster",
        server: daemon("muster-server", "server.toml"),
        agent: daemon("muster-agent", "agent.toml"),
        admin: cluster.server_socket(),
        workload: cluster.workload_socket(),
        node: cluster
            .node()
            .strip_prefix("spiffe://example.org")
            .unwrap()
            .to_owned(),
        known: Vec::new(),
    };
    (cluster, side)
}
