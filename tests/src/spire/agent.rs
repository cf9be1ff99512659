use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{Home, Tool, spire_folder};
use crate::Process;

/// The real SPIRE's agent. It asks its server each second; by default it would each five.
pub struct SpireAgent {
    process: Option<Process>,
    dir: PathBuf,
}

impl SpireAgent {
    /// Installs one that joins by token in a folder of its own below `parent`, for the server `home`.
    pub fn install(parent: &Path, name: &str, home: &Home) -> Self {
        Self::install_with(
            parent,
            name,
            home,
            "",
            r#"NodeAttestor "join_token" { plugin_data {} }"#,
        )
    }

    /// The same with more lines for the `agent` block, and a node attestor of the story's choice.
    pub fn install_with(parent: &Path, name: &str, home: &Home, agent: &str, attestor: &str) -> Self {
        let folder = parent.join(name);
        fs::create_dir_all(folder.join("data")).unwrap();
        fs::write(folder.join("bundle.pem"), &home.bundle).unwrap();
        let (host, port) = home.address.rsplit_once(':').expect("host and port");
        let dir = folder.display();
        let text = format!(
            r#"agent {{
  data_dir = "{dir}/data"
  log_level = "INFO"
  server_address = "{host}"
  server_port = "{port}"
  socket_path = "{dir}/public/api.sock"
  admin_socket_path = "{dir}/private/admin.sock"
  trust_bundle_path = "{dir}/bundle.pem"
  trust_domain = "{}"
  experimental {{ sync_interval = "1s" }}
  {agent}
}}
plugins {{
  KeyManager "disk" {{ plugin_data {{ directory = "{dir}/data" }} }}
  {attestor}
  WorkloadAttestor "unix" {{ plugin_data {{}} }}
}}
"#,
            home.trust_domain
        );
        fs::write(folder.join("agent.conf"), text).unwrap();
        Self {
            process: None,
            dir: folder,
        }
    }

    /// Joins by a token of its server, with a name of its own besides if one is given; returns its SPIFFE ID. It serves then.
    pub fn join(&mut self, home: &Home, alias: Option<&str>) -> String {
        let mut ask = vec!["token", "generate"];
        ask.extend(alias.into_iter().flat_map(|alias| ["-spiffeID", alias]));
        let said = home.tool().run(&ask);
        let token = said.field("Token").expect("what the command prints").to_owned();
        self.start(&["-joinToken", &token]);
        format!("spiffe://{}/spire/agent/join_token/{token}", home.trust_domain)
    }

    /// Starts it, with more arguments, and waits until it serves workloads.
    pub fn start(&mut self, args: &[&str]) {
        self.spawn(args);
        self.serves();
    }

    /// Starts it, with more arguments.
    pub fn spawn(&mut self, args: &[&str]) {
        let mut command = Command::new(spire_folder().join("spire-agent"));
        command
            .args(["run", "-config"])
            .arg(self.dir.join("agent.conf"))
            .args(args);
        self.process = Some(Process::start("SPIRE's agent", &mut command));
    }

    /// Waits until it serves workloads.
    pub fn serves(&self) {
        self.process()
            .line("its Workload API", |line| line.contains("Starting agent APIs"));
    }

    /// The agent, while it runs.
    pub fn process(&self) -> &Process {
        self.process.as_ref().expect("the agent was stopped by the story")
    }

    /// Takes the agent away, to be stopped, killed or waited for.
    pub fn take(&mut self) -> Process {
        self.process.take().expect("the agent runs")
    }

    /// The folder that holds everything of it.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// The Workload API's socket.
    pub fn workload_socket(&self) -> PathBuf {
        self.dir.join("public/api.sock")
    }

    /// The admin socket.
    pub fn admin_socket(&self) -> PathBuf {
        self.dir.join("private/admin.sock")
    }

    /// What `SPIFFE_ENDPOINT_SOCKET` names.
    pub fn endpoint(&self) -> String {
        format!("unix://{}", self.workload_socket().display())
    }

    /// The commands of a workload.
    pub fn tool(&self) -> Tool {
        Tool::agent(self.workload_socket())
    }

    /// The commands of an operator.
    pub fn admin_tool(&self) -> Tool {
        Tool::agent(self.admin_socket())
    }
}
