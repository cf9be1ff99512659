mod attested;
mod install;
mod registration;

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

pub use self::{install::from_pem, registration::unix_channel};
use crate::{Process, Turn, binary};

/// The trust domain of every story, unless it names others.
pub const TRUST_DOMAIN: &str = "example.org";

/// What a story wants otherwise than an operator's defaults.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// More lines for the server's configuration, top level keys first. `{dir}` is the cluster's folder.
    pub server: &'static str,
    /// More lines for the node agent's configuration, top level keys first.
    pub agent: &'static str,
    /// What is done in the cluster's folder before the server's first start.
    pub before: Option<fn(&Path)>,
}

/// A server and one node agent, each a process of its own, joined as README says.
pub struct Cluster {
    server: Option<Process>,
    agent: Option<Process>,
    address: String,
    node: String,
    trust_domain: &'static str,
    runtime: tokio::runtime::Runtime,
    dir: TempDir,
    // The last of all: the daemons above have ended when it is given back.
    _turn: Turn,
}

impl Cluster {
    /// Starts both and waits until a workload could be served.
    pub fn start(settings: &Settings) -> Self {
        Self::start_of(TRUST_DOMAIN, settings)
    }

    /// The same for another trust domain.
    pub fn start_of(trust_domain: &'static str, settings: &Settings) -> Self {
        let mut cluster = Self::start_server_of(trust_domain, settings);
        cluster.join(settings);
        cluster.start_agent();
        cluster
    }

    /// Starts a server alone, for stories that play the nodes themselves.
    pub fn start_server_only(settings: &Settings) -> Self {
        Self::start_server_of(TRUST_DOMAIN, settings)
    }

    /// The same for another trust domain.
    pub fn start_server_of(trust_domain: &'static str, settings: &Settings) -> Self {
        let turn = Turn::beside_others();
        let dir = tempfile::Builder::new()
            .prefix("muster-story-")
            .tempdir()
            .unwrap();
        // Workloads of other users must reach the Workload API's socket below it.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (address, node) = ("127.0.0.1:0".to_owned(), String::new());
        let mut cluster = Self {
            server: None,
            agent: None,
            address,
            node,
            trust_domain,
            runtime,
            dir,
            _turn: turn,
        };
        cluster.write_server_config(settings);
        if let Some(before) = settings.before {
            before(cluster.path());
        }
        cluster.start_server();
        // From now on the port that it was given: the agent must find it again after a restart.
        cluster.write_server_config(settings);
        cluster
    }

    /// The folder that holds everything of this cluster.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// What `SPIFFE_ENDPOINT_SOCKET` names.
    pub fn endpoint(&self) -> String {
        format!("unix://{}", self.workload_socket().display())
    }

    /// The Workload API's socket.
    pub fn workload_socket(&self) -> PathBuf {
        self.path().join("workload/api.sock")
    }

    /// The server's admin socket.
    pub fn server_socket(&self) -> PathBuf {
        self.path().join("server/admin.sock")
    }

    /// The node agent's admin socket.
    pub fn agent_socket(&self) -> PathBuf {
        self.path().join("agent/admin.sock")
    }

    /// Where the server's TCP door is.
    pub fn tcp_address(&self) -> SocketAddr {
        let line = self
            .server()
            .line("its TCP address", |line| line.contains("listening"));
        address_in(&line)
            .and_then(|addr| addr.parse().ok())
            .expect("the line that says it listens names the address")
    }

    /// The server's door for nodes: host and port.
    pub fn server_address(&self) -> &str {
        &self.address
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &'static str {
        self.trust_domain
    }

    /// Where the server's bundle endpoint is, when it has one.
    pub fn bundle_endpoint(&self) -> SocketAddr {
        let line = self
            .server()
            .line("its bundle endpoint", |line| line.contains("listening"));
        let (_, rest) = line.split_once("bundle_endpoint=").expect("it has one");
        let address = rest
            .trim_start_matches('"')
            .split([' ', '"'])
            .next()
            .unwrap_or_default();
        address.parse().expect("an address")
    }

    /// The node's SPIFFE ID: the parent of what its workloads get.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// The server, while it runs.
    pub fn server(&self) -> &Process {
        self.server.as_ref().expect("the server was stopped by the story")
    }

    /// The node agent, while it runs.
    pub fn agent(&self) -> &Process {
        self.agent.as_ref().expect("the agent was stopped by the story")
    }

    /// Takes the server away, to be stopped or killed.
    pub fn take_server(&mut self) -> Process {
        self.server.take().expect("the server runs")
    }

    /// Takes the node agent away, to be stopped or killed.
    pub fn take_agent(&mut self) -> Process {
        self.agent.take().expect("the agent runs")
    }

    /// Starts the server on its present configuration and waits until it is ready.
    pub fn start_server(&mut self) {
        self.start_server_in(&[]);
    }

    /// The same in surroundings that `wrapper` makes, as with [`Cluster::start_agent_in`].
    pub fn start_server_in(&mut self, wrapper: &[&str]) {
        let server = self.start_in(wrapper, "muster-server", "server.toml");
        let listening = server.line("its address", |line| address_in(line).is_some());
        let address = address_in(&listening);
        self.address = address.expect("the line was chosen by it").to_owned();
        server.line("its readiness", is_ready);
        self.server = Some(server);
    }

    /// Starts the node agent on its present configuration and waits until it is ready.
    pub fn start_agent(&mut self) {
        self.start_agent_in(&[]);
    }

    /// The same in surroundings that `wrapper` makes: a program with its arguments, which then becomes what follows them
    /// (`unshare`, `setpriv`, `strace`).
    pub fn start_agent_in(&mut self, wrapper: &[&str]) {
        let agent = self.start_in(wrapper, "muster-agent", "agent.toml");
        agent.line("its readiness", is_ready);
        self.agent = Some(agent);
    }

    fn start_in(&self, wrapper: &[&str], daemon: &str, config: &str) -> Process {
        let mut words = wrapper
            .iter()
            .map(PathBuf::from)
            .chain([binary(daemon), "run".into(), "--config".into()])
            .chain([self.path().join(config)]);
        let mut command = Command::new(words.next().expect("at least the daemon"));
        Process::start(daemon, command.args(words))
    }

    /// Runs `muster` against this cluster's sockets.
    pub fn muster(&self, args: &[&str]) -> Output {
        Command::new(binary("muster"))
            .args(args)
            .env("MUSTER_SERVER_SOCKET", self.server_socket())
            .env("MUSTER_AGENT_SOCKET", self.agent_socket())
            .env("SPIFFE_ENDPOINT_SOCKET", self.endpoint())
            .output()
            .unwrap()
    }

    /// Runs `muster`, which must succeed, and returns what it printed.
    pub fn muster_ok(&self, args: &[&str]) -> String {
        let output = self.muster(args);
        assert!(
            output.status.success(),
            "muster {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Starts a future on the story's own runtime.
    pub fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.runtime.spawn(future)
    }

    /// Waits for a future on the story's own runtime.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }
}

/// Where a daemon says that it listens, in either form of its log.
fn address_in(line: &str) -> Option<&str> {
    let (_, rest) = line
        .split_once(" addr=")
        .or_else(|| line.split_once("\"addr\":\""))?;
    rest.split([' ', '"']).next()
}

/// Whether a daemon says that it is ready.
fn is_ready(line: &str) -> bool {
    line.ends_with(": ready") || line.contains("\"message\":\"ready\"")
}
