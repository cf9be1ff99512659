//! `muster dev`: a server and a node agent in this process, to try things out.
//!
//! ```text
//! folder (locked by the store) → server: server.sock, TCP → server.addr, bundle.pem
//!                              → join token, once → agent: agent.sock, agent-admin.sock
//!                              → an entry for whoever started it → ready, and the next steps on screen
//! ```
//!
//! It differs from the two daemons in its folder and in nothing else: same libraries, same store, same protocols
//! over the same sockets. What is in the folder is still there at the next start.

mod first_steps;
mod folder;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use muster_agent::config::{JoinConfig, TokenSource};
use muster_identity::{SpiffeId, TrustDomain};
use muster_node_attestors::JoinToken;
use muster_pki::bundle::Bundle;
use muster_runtime::{
    Drained, Readiness, Stop, TaskFailure, Tasks,
    logging::{self, Format, Level, LogLevel},
    process::{self, StopSignals},
};
use serde_json::json;

use self::{
    first_steps::FirstSteps,
    folder::{AGENT_ADMIN_SOCKET, AGENT_SOCKET, Folder, SERVER_SOCKET},
};
use crate::{
    failure::{Failure, chain},
    output::{self, Answer, Style},
};

#[derive(clap::Args, Debug)]
pub(crate) struct Dev {
    /// Where sockets and data are kept. [default: muster-dev in $XDG_RUNTIME_DIR, or /tmp/muster-dev-UID]
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
    /// The user's folder for run-time files; an empty text is as good as none.
    #[arg(long, env = "XDG_RUNTIME_DIR", hide = true, default_value = "")]
    runtime_dir: String,
    /// The trust domain to serve. A folder keeps the one it began with.
    #[arg(long, value_name = "NAME", default_value = "example.org")]
    trust_domain: TrustDomain,
    /// The address for nodes; port 0 takes a free one, which is written to server.addr.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// How much the two daemons log, to standard error: error, warn, info, debug or trace.
    #[arg(long, value_name = "LEVEL", default_value = "warn")]
    log: Level,
}

/// How long running calls may take to finish in each daemon when Ctrl-C was pressed; a person waits.
const DRAIN: Duration = Duration::from_secs(2);
/// When both are cut: they stop one after the other, and the server's last writes may take longer than its calls.
const END: Duration = Duration::from_secs(20);
/// How long the agent may take to be ready. It takes well under a second; a machine may be busy.
const PATIENCE: Duration = Duration::from_secs(30);

impl Dev {
    /// Runs until Ctrl-C.
    pub(crate) async fn run(self, style: &Style) -> Result<Answer, Failure> {
        let log_level = logging::install(self.log, Format::Text)
            .map_err(|error| Failure::refused("could not set up logging", error))?;
        let folder = Folder::open(
            self.dir.as_deref(),
            Path::new(&self.runtime_dir),
            &self.trust_domain,
        )?;
        // As the mains of both daemons do: there are keys in this process. The folder was made before, under the umask of its
        // user: other users of the host may reach the Workload API in it.
        process::harden()
            .map_err(|error| Failure::refused("could not close this process to others", error))?;
        let (stop, server_stop) = (Stop::new(), Stop::new());
        let tasks = Tasks::new(stop.clone());
        let signals = StopSignals::listen()
            .map_err(|error| Failure::refused("could not listen for signals", error))?
            .order(stop.clone());
        tasks.spawn("signals", async move {
            signals.await;
            Ok::<_, std::convert::Infallible>(())
        });

        let server = self.server(&folder, &log_level).await?;
        let address = server.address();
        let bundle = server.bundle();
        folder.announce(address, &bundle)?;
        // From here on the server must be told to stop, or its last writes are lost.
        tasks.spawn("server", server.run(server_stop.clone()));

        let spawner = tasks.spawner();
        let running = tasks.run(END);
        tokio::pin!(running);
        let start = async {
            let steps = FirstSteps::new(&folder, &self.trust_domain).await?;
            let agent = self.agent(&folder, address, bundle, &steps, log_level).await?;
            let readiness = agent.readiness();
            let (agent_stop, server_stop) = (stop.clone(), server_stop.clone());
            spawner.spawn("agent", async move {
                let ended = agent.run(agent_stop).await;
                // The server stops last, so that the agent's last words reach it.
                server_stop.order();
                ended
            });
            let user = steps.register_user().await?;
            ready(&readiness).await?;
            Ok((user, steps.node().clone()))
        };
        let started = tokio::select! {
            ended = &mut running => return over(ended),
            started = start => started,
            () = stop.ordered() => {
                // Ctrl-C before the agent is there to pass it on.
                server_stop.order();
                return over(running.await);
            }
        };
        let welcomed = started.and_then(|(user, node)| style.print(&self.welcome(&folder, &user, &node)));
        if let Err(failure) = welcomed {
            stop.order();
            server_stop.order();
            // If it fails too, then because we do.
            let _ = running.await;
            return Err(failure);
        }
        over(running.await)
    }

    async fn server(&self, folder: &Folder, log_level: &LogLevel) -> Result<muster_server::Bound, Failure> {
        let mut config = muster_server::Config::new(self.trust_domain.clone(), folder.path("server"));
        config.listen = self.listen;
        config.admin_socket = folder.path(SERVER_SOCKET);
        config.admin_socket_mode = 0o600;
        config.drain = DRAIN;
        muster_server::build(config, muster_server::Surroundings::new(log_level.clone()))
            .await
            .map_err(|error| {
                Failure::refused("could not start the server", chain(&error)).next(format!(
                    "is another `muster dev` running on {}? Name another folder with --dir",
                    folder
                ))
            })
    }

    async fn agent(
        &self,
        folder: &Folder,
        server: SocketAddr,
        bundle: Arc<Bundle>,
        steps: &FirstSteps,
        log_level: LogLevel,
    ) -> Result<muster_agent::Bound, Failure> {
        let data = folder.path("agent");
        let failed = |error: muster_agent::BuildError| {
            Failure::refused("could not start the node agent", chain(&error)).next(format!(
                "a node that was away for days is no longer known: stop, remove {}, start again",
                data.display()
            ))
        };
        let mut config =
            muster_agent::Config::new(self.trust_domain.clone(), data.clone(), server.to_string());
        config.workload_socket = folder.path(AGENT_SOCKET);
        config.admin_socket = folder.path(AGENT_ADMIN_SOCKET);
        config.admin_socket_mode = 0o600;
        config.drain = DRAIN;
        if !muster_agent::is_joined(&data).map_err(failed)? {
            let token: JoinToken = steps
                .join_token()
                .await?
                .parse()
                .map_err(|error| Failure::refused("could not use the server's join token", error))?;
            let pin = muster_agent::attest::Pin::Bundle(bundle);
            config.join = Some(JoinConfig {
                token: Some(TokenSource::Token(token)),
                pin,
            });
        }
        let surroundings = muster_agent::Surroundings::new(log_level);
        muster_agent::build(config, surroundings).await.map_err(failed)
    }

    fn welcome(&self, folder: &Folder, user: &SpiffeId, node: &SpiffeId) -> Answer {
        let [server, agent, admin] = [SERVER_SOCKET, AGENT_SOCKET, AGENT_ADMIN_SOCKET]
            .map(|name| folder.path(name).display().to_string());
        let sockets = output::block([
            ("Workload API", format!("unix:{agent}")),
            ("Server", server.clone()),
            ("Node agent", admin.clone()),
            ("Your identity", user.to_string()),
            ("Parent for entries", node.to_string()),
        ]);
        let text = format!(
            "Muster is ready: trust domain {}, a server and a node agent. Ctrl-C stops both.\n\n{sockets}\n\n\
             Try in another terminal:\n\
             \x20 export SPIFFE_ENDPOINT_SOCKET=unix:{agent} MUSTER_SERVER_SOCKET={server}\n\
             \x20 muster fetch x509\n\
             \x20 muster entry list",
            self.trust_domain
        );
        let json = json!({
            "trust_domain": self.trust_domain.as_str(),
            "workload_api": format!("unix:{agent}"),
            "server_socket": server,
            "agent_admin_socket": admin,
            "folder": folder.to_string(),
            "user": user.to_string(),
            "parent": node.to_string(),
        });
        Answer::new(text, json)
    }
}

async fn ready(readiness: &Readiness) -> Result<(), Failure> {
    tokio::time::timeout(PATIENCE, readiness.ready())
        .await
        .map_err(|_| {
            let standing = readiness.standing();
            Failure::refused(
                "could not start the node agent",
                format!(
                    "after {} s it still is not ready: {standing:?}",
                    PATIENCE.as_secs()
                ),
            )
            .next("start again with --log info to see more")
        })
}

/// How both daemons ended.
fn over(ended: Result<Drained, TaskFailure>) -> Result<Answer, Failure> {
    match ended {
        Ok(_) => Ok(Answer::new("stopped", json!({ "stopped": true }))),
        Err(failure) => Err(Failure::refused("could not go on", chain(&failure))),
    }
}
