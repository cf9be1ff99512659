//! A node agent that proves its machine itself, instead of by a join token.

use std::fs;

use muster_proto::spire::server::agent::{ListAgentsRequest, agent_client::AgentClient};
use muster_proto::spire::types::Agent;

use super::{Cluster, Settings};

impl Cluster {
    /// Starts the node agent on a configuration in which `[node_attestor]` proves it and the server's bundle is pinned. In `proof`, `{dir}` is the
    /// cluster's folder.
    pub fn attest_agent(&mut self, settings: &Settings, proof: &str) {
        let dir = self.path().display().to_string();
        let mut text = self.agent_config();
        let bundle = self.path().join("bundle.pem");
        fs::write(&bundle, self.bundle_pem()).unwrap();
        // Tables end what stands at the top, so they come last.
        text += &format!("server = \"{}\"\n{}", self.server_address(), settings.agent);
        text += &format!("\n[join]\nbundle_file = \"{}\"\n", bundle.display());
        text += &proof.replace("{dir}", &dir);
        fs::write(self.path().join("agent.toml"), text).unwrap();
        self.start_agent();
        self.node = self.agents().iter().map(id).next_back().unwrap_or_default();
    }

    /// The nodes that the server knows.
    pub fn agents(&self) -> Vec<Agent> {
        self.block_on(async {
            let mut client = AgentClient::new(self.channel().await);
            let listed = client.list_agents(ListAgentsRequest::default()).await.unwrap();
            listed.into_inner().agents
        })
    }
}

/// The SPIFFE ID of a node.
fn id(agent: &Agent) -> String {
    let id = agent.id.clone().unwrap_or_default();
    format!("spiffe://{}{}", id.trust_domain, id.path)
}
