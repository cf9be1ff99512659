//! The real SPIRE beside us: its server, its agent and both their commands, unchanged, each in a folder of its own.

mod agent;
mod programs;
mod server;
mod tool;

use std::path::PathBuf;

use muster_identity::SpiffeId;
use muster_proto::{
    convert,
    spire::server::{
        agent::{CreateJoinTokenRequest, agent_client::AgentClient},
        bundle::{GetBundleRequest, bundle_client::BundleClient},
    },
};
use tonic::transport::Channel;

pub use self::{
    agent::SpireAgent,
    programs::{spire_folder, spire_is_here},
    server::{SpireServer, SpireSettings},
    tool::{Said, Tool},
};
use crate::{Cluster, Identity, join, tcp_channel_trusting, unix_channel};

/// What an agent must know of a server, of whichever kind: where it is, and whom to believe there.
#[derive(Clone, Debug)]
pub struct Home {
    /// Its trust domain.
    pub trust_domain: &'static str,
    /// Host and port of the door for nodes.
    pub address: String,
    /// The authorities, as PEM.
    pub bundle: String,
    /// The door of the administrator's commands.
    pub admin: PathBuf,
}

impl Home {
    /// SPIRE's commands for operators, on this server.
    pub fn tool(&self) -> Tool {
        Tool::server(self.admin.clone())
    }

    /// A connection to its admin socket.
    pub async fn channel(&self) -> Channel {
        unix_channel(self.admin.clone()).await
    }

    /// A connection to its door for nodes, by somebody or by nobody.
    pub async fn tcp(&self, identity: Option<&Identity>) -> Channel {
        let request = GetBundleRequest { output_mask: None };
        let bundle = BundleClient::new(self.channel().await)
            .get_bundle(request)
            .await
            .unwrap()
            .into_inner();
        let bundle = convert::bundle(&bundle).expect("the server's bundle");
        let address = self.address.parse().expect("an address");
        tcp_channel_trusting(address, bundle, identity)
            .await
            .expect("a connection")
    }

    /// A node that joins by a token of its own, which has `alias` for a second name if one is given.
    pub async fn join(&self, alias: Option<&str>) -> Identity {
        let request = CreateJoinTokenRequest {
            ttl: 600,
            agent_id: alias.map(|id| (&id.parse::<SpiffeId>().expect("a SPIFFE ID")).into()),
            ..Default::default()
        };
        let token = AgentClient::new(self.channel().await)
            .create_join_token(request)
            .await
            .unwrap()
            .into_inner()
            .value;
        let key = Identity::key();
        let svid = join(self.tcp(None).await, &token, &*key).await.unwrap();
        Identity { svid, key }
    }
}

impl Cluster {
    /// Our server, as an agent of SPIRE is pointed at it.
    pub fn home(&self) -> Home {
        Home {
            trust_domain: self.trust_domain(),
            address: self.server_address().to_owned(),
            bundle: self.bundle_pem(),
            admin: self.server_socket(),
        }
    }
}
