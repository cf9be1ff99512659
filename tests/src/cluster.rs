use std::{
    fmt::Write as _,
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use hyper_util::rt::TokioIo;
use muster_proto::spire::{
    server::{
        agent::{CreateJoinTokenRequest, agent_client::AgentClient},
        bundle::{GetBundleRequest, bundle_client::BundleClient},
        entry::{BatchCreateEntryRequest, BatchDeleteEntryRequest, entry_client::EntryClient},
    },
    types,
};
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

use crate::{Process, binary};

/// The trust domain of every story.
pub const TRUST_DOMAIN: &str = "example.org";

/// What a story wants otherwise than an operator's defaults.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// More lines for the server's configuration, top level keys first.
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
    runtime: tokio::runtime::Runtime,
    dir: TempDir,
}

impl Cluster {
    /// Starts both and waits until a workload could be served.
    pub fn start(settings: &Settings) -> Self {
        let mut cluster = Self::start_server_only(settings);
        cluster.join(settings);
        cluster.start_agent();
        cluster
    }

    /// Starts a server alone, for stories that play the nodes themselves.
    pub fn start_server_only(settings: &Settings) -> Self {
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
            runtime,
            dir,
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

    /// Where the server's TCP door is.
    pub fn tcp_address(&self) -> SocketAddr {
        let line = self
            .server()
            .line("its TCP address", |line| line.contains("listening"));
        let (_, rest) = line
            .split_once("addr=")
            .expect("the line that says it listens names the address");
        rest.split_whitespace()
            .next()
            .and_then(|addr| addr.parse().ok())
            .expect("an address")
    }

    /// The server's door for nodes: host and port.
    pub fn server_address(&self) -> &str {
        &self.address
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
        let mut command = Command::new(binary("muster-server"));
        command
            .args(["run", "--config"])
            .arg(self.path().join("server.toml"));
        let server = Process::start("muster-server", &mut command);
        let listening = server.line("its address", |line| line.contains(" addr="));
        let address = listening
            .split_once(" addr=")
            .map(|(_, rest)| rest.split(' ').next().unwrap_or(rest));
        self.address = address.expect("the line was chosen by it").to_owned();
        server.line("its readiness", |line| line.ends_with(": ready"));
        self.server = Some(server);
    }

    /// Starts the node agent on its present configuration and waits until it is ready.
    pub fn start_agent(&mut self) {
        let mut command = Command::new(binary("muster-agent"));
        command
            .args(["run", "--config"])
            .arg(self.path().join("agent.toml"));
        let agent = Process::start("muster-agent", &mut command);
        agent.line("its readiness", |line| line.ends_with(": ready"));
        self.agent = Some(agent);
    }

    /// Runs `muster` against this cluster's sockets.
    pub fn muster(&self, args: &[&str]) -> Output {
        Command::new(binary("muster"))
            .args(args)
            .env("MUSTER_SERVER_SOCKET", self.server_socket())
            .env("MUSTER_AGENT_SOCKET", self.path().join("agent/admin.sock"))
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

    /// Registers `path` for callers of which all `selectors` hold; returns the entry's id.
    pub fn register(&self, path: &str, selectors: &[&str]) -> String {
        self.register_entry(self.entry(path, selectors))
    }

    /// An entry below this node, for a story that wants to add to it before [`Cluster::register_entry`].
    pub fn entry(&self, path: &str, selectors: &[&str]) -> types::Entry {
        let member = |path: &str| types::Spiffeid {
            trust_domain: TRUST_DOMAIN.into(),
            path: path.into(),
        };
        types::Entry {
            spiffe_id: Some(member(path)),
            parent_id: Some(member(
                self.node.strip_prefix("spiffe://example.org").unwrap_or_default(),
            )),
            selectors: selectors
                .iter()
                .map(|selector| selector.split_once(':').expect("type:value"))
                .map(|(kind, value)| types::Selector {
                    r#type: kind.into(),
                    value: value.into(),
                })
                .collect(),
            ..Default::default()
        }
    }

    /// Registers an entry, which must succeed; returns its id.
    pub fn register_entry(&self, entry: types::Entry) -> String {
        self.block_on(async {
            let request = BatchCreateEntryRequest {
                entries: vec![entry],
                output_mask: None,
            };
            let answer = EntryClient::new(self.channel().await)
                .batch_create_entry(request)
                .await
                .unwrap()
                .into_inner();
            let result = answer.results.into_iter().next().unwrap();
            assert_eq!(result.status.unwrap().code, 0, "registering failed");
            result.entry.unwrap().id
        })
    }

    /// Deletes an entry, which must be there.
    pub fn unregister(&self, id: &str) {
        self.block_on(async {
            let request = BatchDeleteEntryRequest { ids: vec![id.into()] };
            let answer = EntryClient::new(self.channel().await)
                .batch_delete_entry(request)
                .await
                .unwrap()
                .into_inner();
            assert_eq!(
                answer.results[0].status.as_ref().unwrap().code,
                0,
                "deleting failed"
            );
        });
    }

    /// The server's bundle.
    pub fn bundle(&self) -> types::Bundle {
        self.block_on(async {
            let request = GetBundleRequest { output_mask: None };
            BundleClient::new(self.channel().await)
                .get_bundle(request)
                .await
                .unwrap()
                .into_inner()
        })
    }

    /// A connection to the server's admin socket.
    pub async fn channel(&self) -> Channel {
        let path = self.server_socket();
        Endpoint::from_static("http://localhost")
            .connect_with_connector(tower::service_fn(move |_| {
                let path = path.clone();
                async move { Ok::<_, std::io::Error>(TokioIo::new(tokio::net::UnixStream::connect(path).await?)) }
            }))
            .await
            .unwrap()
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

    fn write_server_config(&self, settings: &Settings) {
        let dir = self.path().display();
        let mut text = format!("trust_domain = \"{TRUST_DOMAIN}\"\ndata_dir = \"{dir}/server/data\"\n");
        writeln!(text, "listen = \"{}\"", self.address).unwrap();
        writeln!(text, "admin_socket = \"{dir}/server/admin.sock\"").unwrap();
        text += settings.server;
        fs::create_dir_all(self.path().join("server")).unwrap();
        fs::write(self.path().join("server.toml"), text).unwrap();
    }

    /// As an operator does it: a token from the server, its bundle carried over by hand, `muster-agent join`.
    fn join(&mut self, settings: &Settings) {
        let dir = self.path().display().to_string();
        fs::create_dir_all(self.path().join("agent")).unwrap();
        let workloads = self.path().join("workload");
        fs::create_dir_all(&workloads).unwrap();
        fs::set_permissions(&workloads, fs::Permissions::from_mode(0o755)).unwrap();
        let mut text =
            format!("data_dir = \"{dir}/agent/data\"\nworkload_socket = \"{dir}/workload/api.sock\"\n");
        writeln!(text, "admin_socket = \"{dir}/agent/admin.sock\"").unwrap();
        text += settings.agent;
        let config = self.path().join("agent.toml");
        fs::write(&config, text).unwrap();

        let bundle = self.path().join("bundle.pem");
        let pem = self
            .bundle()
            .x509_authorities
            .iter()
            .map(|authority| pem(&authority.asn1))
            .collect::<String>();
        fs::write(&bundle, pem).unwrap();
        let token = self.block_on(async {
            let request = CreateJoinTokenRequest {
                ttl: 600,
                ..Default::default()
            };
            AgentClient::new(self.channel().await)
                .create_join_token(request)
                .await
                .unwrap()
                .into_inner()
                .value
        });
        let joined = Command::new(binary("muster-agent"))
            .args(["join", "--server", &self.address, "--token", &token, "--bundle"])
            .arg(&bundle)
            .arg("--config")
            .arg(&config)
            .output()
            .unwrap();
        assert!(
            joined.status.success(),
            "joining: {}",
            String::from_utf8_lossy(&joined.stderr)
        );
        self.node = format!("spiffe://{TRUST_DOMAIN}/spire/agent/join_token/{token}");
    }
}

fn pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines = text
        .as_bytes()
        .chunks(64)
        .map(|line| String::from_utf8_lossy(line) + "\n")
        .collect::<String>();
    format!("-----BEGIN CERTIFICATE-----\n{lines}-----END CERTIFICATE-----\n")
}
