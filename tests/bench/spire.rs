//! The other side: the real SPIRE, unchanged, with its own commands and its usual store (sqlite).

use std::{
    ffi::OsString,
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
};

use muster_tests::{TRUST_DOMAIN, until};
use tempfile::TempDir;

use crate::{daemon::Daemon, side::Side};

/// Whether the agent measures its callers' executables; ours always does.
#[derive(Clone, Copy)]
pub(crate) enum Executables {
    Ignored,
    Measured,
}

/// Installs SPIRE from `programs` in a folder of its own, runs and joins it, and stops it.
pub(crate) fn install(programs: &Path) -> (TempDir, Side) {
    let folder = tempfile::Builder::new()
        .prefix("muster-bench-spire-")
        .tempdir()
        .unwrap();
    let dir = folder.path();
    let port = TcpListener::bind("127.0.0.1:0")
        .and_then(|free| free.local_addr())
        .unwrap()
        .port();
    fs::write(dir.join("server.conf"), server_config(dir, port)).unwrap();
    for (name, executables) in [
        ("agent.conf", Executables::Ignored),
        ("agent-measuring.conf", Executables::Measured),
    ] {
        fs::write(dir.join(name), agent_config(dir, port, executables)).unwrap();
    }

    let admin = dir.join("server.sock");
    let spire_server = programs.join("spire-server");
    let mut server = Daemon::new(
        spire_server.clone(),
        vec!["run".into(), "-config".into(), dir.join("server.conf").into()],
        dir.join("server.log"),
    );
    server.start();
    let ask = |args: &[&str]| {
        Command::new(&spire_server)
            .args(args)
            .arg("-socketPath")
            .arg(&admin)
            .output()
            .unwrap()
    };
    until("SPIRE's server", || ask(&["healthcheck"]).status.success());
    fs::write(dir.join("bundle.pem"), ask(&["bundle", "show"]).stdout).unwrap();
    let said = String::from_utf8(ask(&["token", "generate"]).stdout).unwrap();
    let token = said
        .lines()
        .find_map(|line| line.strip_prefix("Token: "))
        .expect("what the command prints")
        .to_owned();

    // The token counts at the first start; later the agent has its SVID.
    let mut first = run_agent(dir, Executables::Ignored);
    first.extend(["-joinToken".into(), token.clone().into()]);
    let mut agent = Daemon::new(programs.join("spire-agent"), first, dir.join("agent.log"));
    agent.start();
    let joined: PathBuf = dir.join("agent/agent-data.json");
    until("SPIRE's agent", || {
        joined.exists() && dir.join("agent.sock").exists()
    });
    agent.stop();
    server.stop();
    agent.arguments(run_agent(dir, Executables::Ignored));

    let side = Side {
        name: "SPIRE",
        server,
        agent,
        admin,
        workload: dir.join("agent.sock"),
        node: format!("/spire/agent/join_token/{token}"),
        known: Vec::new(),
    };
    (folder, side)
}

/// What the agent is started with.
pub(crate) fn run_agent(dir: &Path, executables: Executables) -> Vec<OsString> {
    let config = match executables {
        Executables::Ignored => "agent.conf",
        Executables::Measured => "agent-measuring.conf",
    };
    vec!["run".into(), "-config".into(), dir.join(config).into()]
}

fn server_config(dir: &Path, port: u16) -> String {
    let dir = dir.display();
    format!(
        r#"server {{
  bind_address = "127.0.0.1"
  bind_port = "{port}"
  trust_domain = "{TRUST_DOMAIN}"
  data_dir = "{dir}/server"
  socket_path = "{dir}/server.sock"
  log_level = "INFO"
  ratelimit {{ signing = false }}
}}
plugins {{
  DataStore "sql" {{ plugin_data {{
    database_type = "sqlite3"
    connection_string = "{dir}/server/datastore.sqlite3"
  }} }}
  KeyManager "disk" {{ plugin_data {{ keys_path = "{dir}/server/keys.json" }} }}
  NodeAttestor "join_token" {{ plugin_data {{}} }}
}}
"#
    )
}

fn agent_config(dir: &Path, port: u16, executables: Executables) -> String {
    let dir = dir.display();
    let measured = matches!(executables, Executables::Measured);
    format!(
        r#"agent {{
  data_dir = "{dir}/agent"
  log_level = "INFO"
  server_address = "127.0.0.1"
  server_port = "{port}"
  socket_path = "{dir}/agent.sock"
  trust_bundle_path = "{dir}/bundle.pem"
  trust_domain = "{TRUST_DOMAIN}"
}}
plugins {{
  KeyManager "disk" {{ plugin_data {{ directory = "{dir}/agent" }} }}
  NodeAttestor "join_token" {{ plugin_data {{}} }}
  WorkloadAttestor "unix" {{ plugin_data {{ discover_workload_path = {measured} }} }}
}}
"#
    )
}
