//! `muster token`: join tokens.

use clap::Subcommand;
use muster_identity::{SpiffeId, UnixTime};
use muster_proto::{
    convert::spiffe_id_to_wire,
    spire::server::agent::{CreateJoinTokenRequest, agent_client::AgentClient},
};
use muster_runtime::{Clock, SystemClock};
use serde_json::json;

use crate::{
    args::ServerSocket,
    connect::{Daemon, connect},
    duration,
    failure::{Failure, clean},
    output::{self, Answer},
};

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token that lets one node in, once.
    #[command(visible_alias = "generate")]
    Create(Create),
}

impl TokenCommand {
    pub(crate) async fn run(self) -> Result<Answer, Failure> {
        let Self::Create(command) = self;
        command.run().await
    }
}

#[derive(clap::Args, Debug)]
pub(crate) struct Create {
    /// How long the token may be used.
    #[arg(long, value_name = "TIME", value_parser = duration::parse_seconds, default_value = "10m")]
    ttl: i32,
    /// A second name for the node, by which entries can have it as their parent.
    #[arg(long, value_name = "SPIFFE ID")]
    agent_id: Option<SpiffeId>,
    /// The token itself, if another tool made it. It is a secret: prefer to let the server choose.
    #[arg(long)]
    token: Option<String>,
    #[command(flatten)]
    socket: ServerSocket,
}

impl Create {
    async fn run(self) -> Result<Answer, Failure> {
        let request = CreateJoinTokenRequest {
            ttl: self.ttl,
            token: self.token.unwrap_or_default(),
            agent_id: self.agent_id.as_ref().map(spiffe_id_to_wire),
        };
        let token = AgentClient::new(connect(&self.socket.path, Daemon::Server).await?)
            .create_join_token(request)
            .await
            .map_err(|status| Failure::status("could not create a join token", &status))?
            .into_inner();
        let expires_at = UnixTime::from_secs(token.expires_at);
        let value = clean(&token.value);
        let text = output::block([
            ("Token", value.clone()),
            ("Expires", output::moment(expires_at, SystemClock.now())),
            (
                "Node's second name",
                self.agent_id
                    .as_ref()
                    .map(ToString::to_string)
                    .unwrap_or_default(),
            ),
        ]);
        let json = json!({
            "token": value,
            "expires_at": expires_at.as_secs(),
            "agent_id": self.agent_id.map(|id| id.to_string()),
        });
        Ok(Answer::new(text, json))
    }
}
