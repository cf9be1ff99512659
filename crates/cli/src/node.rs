//! `muster node`: machines with a node agent.

mod purge;
mod view;

use clap::Subcommand;
use muster_identity::{Selector, SpiffeId, UnixTime};
use muster_proto::{
    convert::spiffe_id_to_wire,
    spire::server::agent::{
        BanAgentRequest, CountAgentsRequest, DeleteAgentRequest, GetAgentRequest, ListAgentsRequest,
        agent_client::AgentClient, count_agents_request, list_agents_request,
    },
};
use muster_runtime::{Clock, SystemClock};
use serde_json::{Value, json};
use tonic::{Code, Status, transport::Channel};

use crate::{
    args::ServerSocket,
    connect::{Daemon, connect},
    duration,
    entry::{How, selector_match},
    failure::Failure,
    output::{self, Answer, Style},
    pages,
};

#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// List nodes, all or those that match.
    List(List),
    /// Show a node.
    Show(Named),
    /// Count nodes, all or those that match.
    Count(List),
    /// Shut a node out, until it is evicted.
    Ban(Named),
    /// Forget a node. It must attest again; a ban ends.
    Evict(Named),
    /// Forget nodes whose certificates ended long ago and that can attest again.
    Purge(purge::Purge),
}

impl NodeCommand {
    pub(crate) async fn run(self, style: &Style) -> Result<Answer, Failure> {
        match self {
            Self::List(command) => command.list(style).await,
            Self::Show(command) => command.show().await,
            Self::Count(command) => command.count().await,
            Self::Ban(command) => command.ban().await,
            Self::Evict(command) => command.evict().await,
            Self::Purge(command) => command.run(style).await,
        }
    }
}

/// Which nodes are meant: those that every condition holds for.
#[derive(clap::Args, Debug, Default)]
pub(crate) struct Filter {
    /// Nodes that got in by this attestor, as join_token.
    #[arg(long = "type", visible_alias = "attestation-type", value_name = "ATTESTOR")]
    kind: Option<String>,
    /// Nodes with this selector. Repeat it for several.
    #[arg(long = "selector", value_name = "TYPE:VALUE")]
    selectors: Vec<Selector>,
    /// How a node's selectors stand to those you name.
    #[arg(
        long = "match",
        value_enum,
        default_value_t,
        value_name = "HOW",
        requires = "selectors"
    )]
    how: How,
    /// Nodes that are shut out, or that are not.
    #[arg(long, value_name = "true|false")]
    banned: Option<bool>,
    /// Nodes that can attest again by themselves, or that can't.
    #[arg(long, value_name = "true|false")]
    can_reattest: Option<bool>,
    /// Nodes whose certificate ends before this moment, as 2026-01-31T08:00:00Z.
    #[arg(long, value_name = "MOMENT", value_parser = duration::parse_moment)]
    expires_before: Option<UnixTime>,
}

impl Filter {
    fn to_wire(&self) -> list_agents_request::Filter {
        list_agents_request::Filter {
            by_attestation_type: self.kind.clone().unwrap_or_default(),
            by_selector_match: selector_match(&self.selectors, self.how),
            by_banned: self.banned,
            by_can_reattest: self.can_reattest,
            // The contract wants the form in which Go prints a time.
            by_expires_before: self
                .expires_before
                .map(|at| at.to_string().replace('T', " ").replace('Z', " +0000 UTC"))
                .unwrap_or_default(),
        }
    }
}

#[derive(clap::Args, Debug)]
pub(crate) struct List {
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    socket: ServerSocket,
}

impl List {
    async fn list(self, style: &Style) -> Result<Answer, Failure> {
        let nodes = find(&client(&self.socket).await?, self.filter.to_wire(), style).await?;
        let table = view::table(&nodes, SystemClock.now());
        Ok(Answer::new(
            table,
            nodes.iter().map(view::Node::json).collect::<Value>(),
        ))
    }

    async fn count(self) -> Result<Answer, Failure> {
        let filter = self.filter.to_wire();
        let filter = count_agents_request::Filter {
            by_attestation_type: filter.by_attestation_type,
            by_selector_match: filter.by_selector_match,
            by_banned: filter.by_banned,
            by_can_reattest: filter.by_can_reattest,
            by_expires_before: filter.by_expires_before,
        };
        let answer = client(&self.socket)
            .await?
            .count_agents(CountAgentsRequest { filter: Some(filter) })
            .await
            .map_err(|status| Failure::status("could not count nodes", &status))?;
        let count = usize::try_from(answer.into_inner().count).unwrap_or(0);
        Ok(Answer::new(
            output::count(count, "node", "nodes"),
            json!({ "count": count }),
        ))
    }
}

#[derive(clap::Args, Debug)]
pub(crate) struct Named {
    /// The node's ID.
    #[arg(value_name = "SPIFFE ID")]
    id: SpiffeId,
    #[command(flatten)]
    socket: ServerSocket,
}

impl Named {
    async fn show(self) -> Result<Answer, Failure> {
        let request = GetAgentRequest {
            id: Some(spiffe_id_to_wire(&self.id)),
            output_mask: None,
        };
        let answer = client(&self.socket)
            .await?
            .get_agent(request)
            .await
            .map_err(|status| refused(format!("could not show node {}", self.id), &status))?;
        let node = view::Node::read(&answer.into_inner())?;
        Ok(Answer::new(node.block(SystemClock.now()), node.json()))
    }

    async fn ban(self) -> Result<Answer, Failure> {
        let request = BanAgentRequest {
            id: Some(spiffe_id_to_wire(&self.id)),
        };
        client(&self.socket)
            .await?
            .ban_agent(request)
            .await
            .map_err(|status| refused(format!("could not ban node {}", self.id), &status))?;
        let text = format!("banned {}; `muster node evict` lets it in again", self.id);
        Ok(Answer::new(text, json!({ "banned": self.id.to_string() })))
    }

    async fn evict(self) -> Result<Answer, Failure> {
        evict(&mut client(&self.socket).await?, &self.id).await?;
        Ok(Answer::new(
            format!("evicted {}", self.id),
            json!({ "evicted": self.id.to_string() }),
        ))
    }
}

async fn client(socket: &ServerSocket) -> Result<AgentClient<Channel>, Failure> {
    Ok(AgentClient::new(connect(&socket.path, Daemon::Server).await?))
}

async fn find(
    client: &AgentClient<Channel>,
    filter: list_agents_request::Filter,
    style: &Style,
) -> Result<Vec<view::Node>, Failure> {
    let found = pages::all("nodes", style, |page_token| {
        let mut client = client.clone();
        let request = ListAgentsRequest {
            filter: Some(filter.clone()),
            output_mask: None,
            page_size: pages::PAGE,
            page_token,
        };
        async move {
            let page = client.list_agents(request).await?.into_inner();
            Ok((page.agents, page.next_page_token))
        }
    })
    .await?;
    found.iter().map(view::Node::read).collect()
}

async fn evict(client: &mut AgentClient<Channel>, id: &SpiffeId) -> Result<(), Failure> {
    client
        .delete_agent(DeleteAgentRequest {
            id: Some(spiffe_id_to_wire(id)),
        })
        .await
        .map_err(|status| refused(format!("could not evict node {id}"), &status))?;
    Ok(())
}

fn refused(what: String, status: &Status) -> Failure {
    let failure = Failure::status(what, status);
    if status.code() == Code::NotFound {
        return failure.next("`muster node list` shows which there are");
    }
    failure
}
