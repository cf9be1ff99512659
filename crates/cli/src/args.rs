//! The command line as a whole.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::{
    audit, authority, bundle, dev, entry, federation, fetch, grant, health, log, mint, node, token, validate,
};

/// Identities for the processes that earned them.
#[derive(Debug, Parser)]
#[command(
    name = "muster",
    version,
    max_term_width = 100,
    disable_help_subcommand = true
)]
pub(crate) struct Muster {
    /// How to print: tables for people, JSON for programs.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORM")]
    pub(crate) output: Form,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(crate) enum Form {
    #[default]
    Table,
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a server and a node agent in this process, to try things out.
    Dev(dev::Dev),
    /// Registration entries: who gets which identity.
    #[command(subcommand)]
    Entry(entry::EntryCommand),
    /// Nodes that have attested.
    #[command(subcommand)]
    Node(node::NodeCommand),
    /// Join tokens, each of which lets one node in.
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Grants: who may do a part of what an administrator may.
    #[command(subcommand)]
    Grant(grant::GrantCommand),
    /// Trust bundles: the keys by which SVIDs are verified.
    #[command(subcommand)]
    Bundle(bundle::BundleCommand),
    /// Authorities: what signs, and its forced rotation.
    #[command(subcommand)]
    Authority(authority::AuthorityCommand),
    /// Other trust domains: whose SVIDs our workloads can verify.
    #[command(subcommand)]
    Federation(federation::FederationCommand),
    /// Sign an SVID by name, without a node or an entry.
    #[command(subcommand)]
    Mint(mint::MintCommand),
    /// Ask the Workload API, as any process on this host may.
    #[command(subcommand)]
    Fetch(fetch::FetchCommand),
    /// Check IDs, SVIDs and bundles by the SPIFFE standards, offline.
    #[command(subcommand)]
    Validate(validate::ValidateCommand),
    /// Audit logs: whether anybody changed them.
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Ask a daemon whether it is healthy.
    Health(health::Health),
    /// The log level of a running daemon.
    #[command(subcommand)]
    Log(log::LogCommand),
}

/// Where the server's admin socket is.
#[derive(clap::Args, Debug)]
pub(crate) struct ServerSocket {
    /// The server's admin socket.
    #[arg(
        long = "socket",
        env = "MUSTER_SERVER_SOCKET",
        default_value = "/run/muster/server/admin.sock",
        value_name = "PATH",
        hide_env_values = true
    )]
    pub(crate) path: PathBuf,
}

/// Where a daemon's admin socket is, the server's unless the agent is asked for.
#[derive(clap::Args, Debug)]
pub(crate) struct DaemonSocket {
    /// Ask the node agent on this host instead of the server.
    #[arg(long)]
    pub(crate) agent: bool,
    /// The daemon's admin socket.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Where the server's is.
    #[arg(
        long,
        env = "MUSTER_SERVER_SOCKET",
        default_value = "/run/muster/server/admin.sock",
        hide = true
    )]
    server_socket: PathBuf,
    /// Where the agent's is.
    #[arg(
        long,
        env = "MUSTER_AGENT_SOCKET",
        default_value = "/run/muster/agent/admin.sock",
        hide = true
    )]
    agent_socket: PathBuf,
}

impl DaemonSocket {
    pub(crate) fn path(&self) -> &PathBuf {
        let usual = if self.agent {
            &self.agent_socket
        } else {
            &self.server_socket
        };
        self.socket.as_ref().unwrap_or(usual)
    }
}
