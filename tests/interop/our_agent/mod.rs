//! Our agent on the real SPIRE's server, which pushes nothing and is polled.

mod connection_age;
mod entries;
mod forced_rotation;
mod kinds;
mod proxy;
mod restarts;
mod rotation;
mod shut_out;
mod x509pop;

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use muster_tests::{Home, Process, SpireServer, SpireSettings, TRUST_DOMAIN, Workload, binary, until};
use serde_json::Value;

/// A node that joined by token, as README says, on a server of whichever kind.
pub(crate) struct OurAgent {
    process: Option<Process>,
    dir: PathBuf,
    /// The node's SPIFFE ID.
    pub(crate) node: String,
}

/// SPIRE's server with our agent on it. Workloads are unchanged clients.
pub(crate) struct Joined {
    // Ended before its server.
    pub(crate) agent: OurAgent,
    pub(crate) server: SpireServer,
}

impl OurAgent {
    /// Joins below `parent` by a token of `home`, which is reached at `address`, and starts. `config` are more lines of configuration.
    pub(crate) fn join(parent: &Path, home: &Home, address: &str, config: &str) -> Self {
        let mut agent = Self::install(parent, home, config);
        agent.join_again(home, address, &[]);
        agent.start();
        agent
    }

    /// Joins below `parent` by what `config` says of this machine, and starts.
    pub(crate) fn join_by_proof(parent: &Path, home: &Home, config: &str) -> Self {
        let mut agent = Self::install(parent, home, config);
        let joined = agent.run_join(&["--server", &home.address], "");
        let said = String::from_utf8_lossy(&joined.stderr);
        assert!(joined.status.success(), "joining: {said}");
        agent.node = String::from_utf8_lossy(&joined.stdout).trim().to_owned();
        agent.start();
        agent
    }

    fn install(parent: &Path, home: &Home, config: &str) -> Self {
        let dir = parent.join("muster-agent");
        fs::create_dir_all(dir.join("workload")).unwrap();
        fs::set_permissions(parent, fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(dir.join("workload"), fs::Permissions::from_mode(0o755)).unwrap();
        let shown = dir.display();
        let text = format!(
            "data_dir = \"{shown}/data\"\nworkload_socket = \"{shown}/workload/api.sock\"\nadmin_socket = \"{shown}/admin.sock\"\n{config}"
        );
        fs::write(dir.join("agent.toml"), text).unwrap();
        fs::write(dir.join("bundle.pem"), &home.bundle).unwrap();
        Self {
            process: None,
            dir,
            node: String::new(),
        }
    }

    /// Joins by a new token, with more arguments. The agent does not run.
    pub(crate) fn join_again(&mut self, home: &Home, address: &str, args: &[&str]) {
        let said = home.tool().run(&["token", "generate"]);
        let token = said.field("Token").expect("what the command prints").to_owned();
        let joined = self.try_to_join(address, &token, args);
        assert!(
            joined.status.success(),
            "joining: {}",
            String::from_utf8_lossy(&joined.stderr)
        );
        self.node = format!("spiffe://{TRUST_DOMAIN}/spire/agent/join_token/{token}");
        assert_eq!(String::from_utf8_lossy(&joined.stdout).trim(), self.node);
    }

    /// `muster-agent join` by a token.
    pub(crate) fn try_to_join(&self, address: &str, token: &str, args: &[&str]) -> Output {
        let mut all = vec!["--server", address, "--token", "-"];
        all.extend(args);
        self.run_join(&all, token)
    }

    fn run_join(&self, args: &[&str], input: &str) -> Output {
        let mut joining = Command::new(binary("muster-agent"))
            .arg("join")
            .args(args)
            .arg("--bundle")
            .arg(self.dir.join("bundle.pem"))
            .arg("--config")
            .arg(self.dir.join("agent.toml"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = joining.stdin.take().expect("piped above");
        // Who needs no input has closed its end, which is nothing to complain of.
        stdin.write_all(input.as_bytes()).ok();
        drop(stdin);
        joining.wait_with_output().unwrap()
    }

    /// Starts it and waits until it is ready.
    pub(crate) fn start(&mut self) {
        let mut command = Command::new(binary("muster-agent"));
        command.args(["run", "--config"]).arg(self.dir.join("agent.toml"));
        let process = Process::start("muster-agent", &mut command);
        process.line("its readiness", |line| line.ends_with(": ready"));
        self.process = Some(process);
    }

    /// The agent, while it runs.
    pub(crate) fn process(&self) -> &Process {
        self.process.as_ref().expect("the agent was stopped by the story")
    }

    /// Takes the agent away, to be stopped or killed.
    pub(crate) fn take(&mut self) -> Process {
        self.process.take().expect("the agent runs")
    }

    /// What `SPIFFE_ENDPOINT_SOCKET` names.
    pub(crate) fn endpoint(&self) -> String {
        format!("unix://{}/workload/api.sock", self.dir.display())
    }

    /// The Workload API's socket.
    pub(crate) fn workload_socket(&self) -> PathBuf {
        self.dir.join("workload/api.sock")
    }

    /// The admin socket.
    pub(crate) fn admin_socket(&self) -> PathBuf {
        self.dir.join("admin.sock")
    }

    /// The sealed copy of what the agent holds.
    pub(crate) fn kept(&self) -> PathBuf {
        self.dir.join("data/svids.sealed")
    }

    /// Waits until a client is given what is `wanted`, and starts one that watches. Before the first poll that brings an entry a client would be turned away.
    pub(crate) fn watching(&self, what: &str, wanted: impl Fn(&[String]) -> bool) -> Process {
        until(what, || {
            let asking = self.client(Workload::Rust, &["fetch-x509"]);
            wanted(&paths(&asking.event_where("an answer", |_| true)))
        });
        self.client(Workload::Rust, &["watch-x509"])
    }

    /// Starts an unchanged client on its Workload API.
    pub(crate) fn client(&self, client: Workload, args: &[&str]) -> Process {
        client.start_at(&self.endpoint(), None, args)
    }
}

impl Joined {
    /// Starts SPIRE's server and our agent on it.
    pub(crate) fn start(settings: &SpireSettings, config: &str) -> Self {
        let server = SpireServer::start(settings);
        let home = server.home();
        let agent = OurAgent::join(server.path(), &home, &home.address, config);
        Self { agent, server }
    }

    /// Registers `path` below the node for callers of this user, by SPIRE's command; returns the entry's id.
    pub(crate) fn register(&self, path: &str, more: &[&str]) -> String {
        register(&self.server.home(), &self.agent.node, path, more)
    }

    /// What the server's command shows of the node.
    pub(crate) fn shown(&self, field: &str) -> Option<String> {
        let node = &self.agent.node;
        let said = self.server.tool().run(&["agent", "show", "-spiffeID", node]);
        said.field(field).map(str::to_owned)
    }
}

/// Registers `path` below `node` for callers of this user, by SPIRE's command; returns the entry's id.
pub(crate) fn register(home: &Home, node: &str, path: &str, more: &[&str]) -> String {
    let (uid, id) = (uid_selector(), format!("spiffe://{TRUST_DOMAIN}{path}"));
    let mut args = vec![
        "entry",
        "create",
        "-parentID",
        node,
        "-spiffeID",
        &id,
        "-selector",
        &uid,
    ];
    args.extend(more);
    let said = home.tool().run(&args);
    assert_eq!(said.status, Some(0), "{said:?}");
    said.field("Entry ID")
        .expect("what the command prints")
        .to_owned()
}

/// What holds of the processes of this user.
pub(crate) fn uid_selector() -> String {
    format!("unix:uid:{}", nix::unistd::getuid())
}

/// The paths of the identities that an event names, sorted.
pub(crate) fn paths(event: &Value) -> Vec<String> {
    let svids = event["svids"].as_array().cloned().unwrap_or_default();
    let path = |svid: &Value| {
        let id = svid["id"].as_str().expect("an identity");
        id.strip_prefix("spiffe://example.org")
            .expect("of this trust domain")
            .to_owned()
    };
    let mut paths: Vec<String> = svids.iter().map(path).collect();
    paths.sort();
    paths
}

/// The serial number of the SVID of `path` in an event.
pub(crate) fn serial(event: &Value, path: &str) -> String {
    let id = format!("spiffe://{TRUST_DOMAIN}{path}");
    let svids = event["svids"].as_array().cloned().unwrap_or_default();
    let svid = svids.into_iter().find(|svid| svid["id"] == id);
    svid.expect("the identity is there")["serial"]
        .as_str()
        .expect("a number")
        .to_owned()
}
