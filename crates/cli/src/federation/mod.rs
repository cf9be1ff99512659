//! `muster federation`: other trust domains.

mod change;
mod doctor;
mod view;

use clap::Subcommand;
use muster_identity::TrustDomain;
use muster_proto::{
    federation::{ListPeersRequest, Peer, federation_client::FederationClient},
    spire::server::trustdomain::trust_domain_client::TrustDomainClient,
};
use tonic::transport::Channel;

use crate::{
    args::ServerSocket,
    connect::{Daemon, connect},
    failure::Failure,
    output::{Answer, Style},
};

#[derive(Debug, Subcommand)]
pub(crate) enum FederationCommand {
    /// Begin to follow another trust domain's bundle.
    Create(change::Create),
    /// List the trust domains that are federated with.
    List(Plain),
    /// Show one, and how it stands with it.
    Show(Named),
    /// Fetch a bundle now.
    Refresh(Named),
    /// Change where a bundle comes from, or which paths count.
    Update(change::Update),
    /// End a relationship: the bundle goes with it.
    Delete(Named),
    /// Let nothing of a trust domain count any more, here and at every node, until it is released.
    Revoke(Named),
    /// Let a trust domain count again; its bundle is fetched anew.
    Release(Named),
    /// Say in one page what each side sees, and what is wrong.
    Doctor(doctor::Doctor),
}

impl FederationCommand {
    pub(crate) async fn run(self, _style: &Style) -> Result<Answer, Failure> {
        match self {
            Self::Create(command) => command.run().await,
            Self::List(command) => command.list().await,
            Self::Show(command) => command.show().await,
            Self::Refresh(command) => change::refresh(&command).await,
            Self::Update(command) => command.run().await,
            Self::Delete(command) => change::delete(&command).await,
            Self::Revoke(command) => change::revoke(&command).await,
            Self::Release(command) => change::release(&command).await,
            Self::Doctor(command) => command.run().await,
        }
    }
}

#[derive(clap::Args, Debug)]
pub(crate) struct Plain {
    #[command(flatten)]
    socket: ServerSocket,
}

#[derive(clap::Args, Debug)]
pub(crate) struct Named {
    /// The other trust domain.
    #[arg(value_name = "TRUST DOMAIN")]
    trust_domain: TrustDomain,
    #[command(flatten)]
    socket: ServerSocket,
}

impl Plain {
    async fn list(self) -> Result<Answer, Failure> {
        let peers = peers(&mut ours(&self.socket).await?, None).await?;
        Ok(view::list(&peers))
    }
}

impl Named {
    async fn show(self) -> Result<Answer, Failure> {
        let peers = peers(&mut ours(&self.socket).await?, Some(&self.trust_domain)).await?;
        let peer = peers.into_iter().next().unwrap_or_default();
        Ok(view::peer(&peer))
    }
}

async fn spire(socket: &ServerSocket) -> Result<TrustDomainClient<Channel>, Failure> {
    Ok(TrustDomainClient::new(
        connect(&socket.path, Daemon::Server).await?,
    ))
}

async fn ours(socket: &ServerSocket) -> Result<FederationClient<Channel>, Failure> {
    Ok(FederationClient::new(
        connect(&socket.path, Daemon::Server).await?,
    ))
}

/// Everybody, or only one, who must be there.
async fn peers(
    client: &mut FederationClient<Channel>,
    only: Option<&TrustDomain>,
) -> Result<Vec<Peer>, Failure> {
    let request = ListPeersRequest {
        trust_domain: only.map(ToString::to_string).unwrap_or_default(),
    };
    let answer = client
        .list_peers(request)
        .await
        .map_err(|status| Failure::status("could not read the relationships", &status))?;
    Ok(answer.into_inner().peers)
}
