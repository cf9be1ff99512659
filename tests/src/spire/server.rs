use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use super::{Home, Tool, spire_folder};
use crate::{Process, TRUST_DOMAIN, Turn};

/// What a story wants otherwise than SPIRE's defaults.
#[derive(Clone, Copy, Debug, Default)]
pub struct SpireSettings {
    /// More lines for the `server` block.
    pub server: &'static str,
    /// More lines for the `plugins` block.
    pub plugins: &'static str,
    /// What is done in the server's folder before its first start.
    pub before: Option<fn(&Path)>,
    /// Another trust domain than the stories' usual one.
    pub trust_domain: Option<&'static str>,
    /// The file with the authorities of the Web PKI that it believes in the place of the system's.
    pub web_authorities: Option<&'static str>,
}

/// The real SPIRE's server on its usual store (sqlite), with keys on disk.
pub struct SpireServer {
    process: Option<Process>,
    settings: SpireSettings,
    port: u16,
    dir: TempDir,
    _turn: Turn,
}

impl SpireServer {
    /// Starts one in a folder of its own and waits until it serves.
    pub fn start(settings: &SpireSettings) -> Self {
        let turn = Turn::beside_others();
        let dir = tempfile::Builder::new()
            .prefix("muster-spire-")
            .tempdir()
            .unwrap();
        // It can't be told to choose one and say which.
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|free| free.local_addr())
            .unwrap()
            .port();
        let mut server = Self {
            process: None,
            settings: *settings,
            port,
            dir,
            _turn: turn,
        };
        server.configure(settings);
        if let Some(before) = settings.before {
            before(server.path());
        }
        server.start_again();
        server
    }

    /// Writes its configuration, for the next start.
    pub fn configure(&self, settings: &SpireSettings) {
        let dir = self.path().display();
        let (port, SpireSettings { server, plugins, .. }) = (self.port, settings);
        let trust_domain = self.trust_domain();
        let text = format!(
            r#"server {{
  bind_address = "127.0.0.1"
  bind_port = "{port}"
  trust_domain = "{trust_domain}"
  data_dir = "{dir}/data"
  socket_path = "{dir}/server.sock"
  log_level = "INFO"
  {server}
}}
plugins {{
  DataStore "sql" {{ plugin_data {{
    database_type = "sqlite3"
    connection_string = "{dir}/data/datastore.sqlite3"
  }} }}
  KeyManager "disk" {{ plugin_data {{ keys_path = "{dir}/data/keys.json" }} }}
  NodeAttestor "join_token" {{ plugin_data {{}} }}
  {plugins}
}}
"#
        );
        fs::write(self.path().join("server.conf"), text).unwrap();
    }

    /// Starts it on its present configuration and waits until it serves.
    pub fn start_again(&mut self) {
        let mut command = Command::new(spire_folder().join("spire-server"));
        command
            .args(["run", "-config"])
            .arg(self.path().join("server.conf"))
            .envs(self.settings.web_authorities.map(|file| ("SSL_CERT_FILE", file)));
        let process = Process::start("SPIRE's server", &mut command);
        let serves = |line: &str| line.contains("Starting Server APIs");
        process.line("its door for nodes", |line| {
            serves(line) && line.contains("network=tcp")
        });
        process.line("its door for operators", |line| {
            serves(line) && line.contains("network=unix")
        });
        self.process = Some(process);
    }

    /// Its trust domain.
    pub fn trust_domain(&self) -> &'static str {
        self.settings.trust_domain.unwrap_or(TRUST_DOMAIN)
    }

    /// The server, while it runs.
    pub fn process(&self) -> &Process {
        self.process
            .as_ref()
            .expect("the server was stopped by the story")
    }

    /// Takes the server away, to be stopped or killed.
    pub fn take(&mut self) -> Process {
        self.process.take().expect("the server runs")
    }

    /// The folder that holds everything of it.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Its admin socket.
    pub fn socket(&self) -> PathBuf {
        self.path().join("server.sock")
    }

    /// Its commands.
    pub fn tool(&self) -> Tool {
        Tool::server(self.socket())
    }

    /// As an agent is pointed at it.
    pub fn home(&self) -> Home {
        Home {
            trust_domain: self.trust_domain(),
            address: format!("127.0.0.1:{}", self.port),
            bundle: self.tool().ok(&["bundle", "show"]),
            admin: self.socket(),
        }
    }
}
