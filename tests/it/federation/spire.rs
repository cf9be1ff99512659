//! With the real SPIRE, unchanged: its server and its agent, by both profiles each way.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use muster_tests::{Process, Web, Workload, need, peer, until};
use tempfile::TempDir;

use super::pair::{OTHER, believing, register, settings, token, web_endpoint};

/// How SPIRE's endpoint proves what it is.
enum Shows<'a> {
    Svid,
    Web(&'a Web),
}

/// SPIRE's server and agent in a folder of their own.
struct Spire {
    programs: PathBuf,
    dir: TempDir,
    endpoint: u16,
    node: String,
    agent: Option<Process>,
    _server: Process,
}

impl Spire {
    /// It believes the authority of `web` as it would the system's.
    fn start(programs: PathBuf, shows: &Shows<'_>, web: &Web) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("muster-spire-")
            .tempdir()
            .unwrap();
        let [port, endpoint] = free_ports();
        fs::write(
            dir.path().join("server.conf"),
            server_config(dir.path(), port, endpoint, shows),
        )
        .unwrap();
        fs::write(dir.path().join("agent.conf"), agent_config(dir.path(), port)).unwrap();
        let server = Process::start(
            "spire-server",
            Command::new(programs.join("spire-server"))
                .args(["run", "-config"])
                .arg(dir.path().join("server.conf"))
                .env("SSL_CERT_FILE", web.ca_file()),
        );
        let mut spire = Self {
            programs,
            dir,
            endpoint,
            node: String::new(),
            agent: None,
            _server: server,
        };
        until("SPIRE's server", || spire.ask(&["healthcheck"]).status.success());
        spire.join();
        spire
    }

    fn join(&mut self) {
        fs::write(self.path("bundle.pem"), self.ask(&["bundle", "show"]).stdout).unwrap();
        let said = String::from_utf8(self.ask(&["token", "generate"]).stdout).unwrap();
        let token = said
            .lines()
            .find_map(|line| line.strip_prefix("Token: "))
            .unwrap()
            .to_owned();
        let mut command = Command::new(self.programs.join("spire-agent"));
        command
            .args(["run", "-config"])
            .arg(self.path("agent.conf"))
            .args(["-joinToken", &token]);
        self.node = format!("spiffe://{OTHER}/spire/agent/join_token/{token}");
        self.agent = Some(Process::start("spire-agent", &mut command));
        until("SPIRE's agent", || self.path("agent.sock").exists());
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn ask(&self, args: &[&str]) -> Output {
        Command::new(self.programs.join("spire-server"))
            .args(args)
            .arg("-socketPath")
            .arg(self.path("server.sock"))
            .output()
            .unwrap()
    }

    fn ask_ok(&self, args: &[&str]) -> String {
        let output = self.ask(args);
        assert!(output.status.success(), "spire-server {args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn workload_api(&self) -> String {
        format!("unix://{}", self.path("agent.sock").display())
    }
}

#[test]
fn workloads_of_muster_and_of_spire_verify_each_other_by_both_profiles() {
    let Some(programs) = peer("spire-1.15.3") else {
        need("the real SPIRE, which tests/peers/spire/build makes", false);
        return;
    };
    if ![Workload::Go, Workload::Python]
        .into_iter()
        .all(Workload::is_here)
    {
        return;
    }
    let web = Web::new();
    for (shows, ours_shows) in [(Shows::Svid, "https_web"), (Shows::Web(&web), "https_spiffe")] {
        let config = if ours_shows == "https_web" {
            web_endpoint(&web)
        } else {
            believing(&web)
        };
        let ours = muster_tests::Cluster::start(&settings(config));
        let spire = Spire::start(programs.clone(), &shows, &web);

        // We follow SPIRE.
        let url = format!("https://127.0.0.1:{}/", spire.endpoint);
        let file = spire.path("spire.json").display().to_string();
        fs::write(&file, spire.ask_ok(&["bundle", "show", "-format", "spiffe"])).unwrap();
        let id = format!("spiffe://{OTHER}/spire/server");
        let mut create = vec!["federation", "create", OTHER, "--url", &url, "--profile"];
        match shows {
            Shows::Svid => create.extend(["https_spiffe", "--endpoint-id", &id, "--bundle", &file]),
            Shows::Web(_) => create.push("https_web"),
        }
        ours.muster_ok(&create);
        ours.muster_ok(&["federation", "refresh", OTHER]);

        // SPIRE follows us.
        let our_url = format!("https://{}/", ours.bundle_endpoint());
        let bundle = ours.path().join("ours.json").display().to_string();
        fs::write(&bundle, ours.muster_ok(&["bundle", "show", "--format", "spiffe"])).unwrap();
        let mut create = vec![
            "federation",
            "create",
            "-trustDomain",
            "example.org",
            "-bundleEndpointURL",
            &our_url,
        ];
        create.extend([
            "-trustDomainBundlePath",
            &bundle,
            "-trustDomainBundleFormat",
            "spiffe",
            "-bundleEndpointProfile",
        ]);
        match ours_shows {
            "https_web" => create.push("https_web"),
            _ => create.extend([
                "https_spiffe",
                "-endpointSpiffeID",
                "spiffe://example.org/spire/server",
            ]),
        }
        spire.ask_ok(&create);
        let refreshed = spire.ask_ok(&["federation", "refresh", "-id", "example.org"]);
        assert!(refreshed.contains("refreshed"), "{refreshed}");

        register(&ours, "/web", OTHER);
        let uid = format!("unix:uid:{}", nix::unistd::getuid());
        let (web_id, db_id) = ("spiffe://example.org/web", format!("spiffe://{OTHER}/db"));
        spire.ask_ok(&[
            "entry",
            "create",
            "-parentID",
            &spire.node,
            "-spiffeID",
            &db_id,
            "-selector",
            &uid,
            "-federatesWith",
            "example.org",
        ]);
        let api = spire.workload_api();
        until("SPIRE's agent to have the entry", || {
            let fetched = Workload::Go.start_at(&api, None, &["fetch-x509"]);
            let event = fetched.event_where("an answer", |event| {
                event["event"] == "x509" || event["event"] == "error"
            });
            event["bundles"]
                .as_array()
                .is_some_and(|bundles| bundles.len() == 2)
        });

        let serving = Workload::Go.start(&ours, &["serve", "127.0.0.1:0", &db_id]);
        let address = serving.event("listening")["addr"].as_str().unwrap().to_owned();
        let dialed = Workload::Python
            .start_at(&api, None, &["dial", &address, web_id, "10"])
            .event("dialed");
        assert_eq!(dialed["ok"], 10, "{dialed}");
        let serving = Workload::Python.start_at(&api, None, &["serve", "127.0.0.1:0", web_id]);
        let address = serving.event("listening")["addr"].as_str().unwrap().to_owned();
        let dialed = Workload::Go
            .start(&ours, &["dial", &address, &db_id, "10"])
            .event("dialed");
        assert_eq!(dialed["ok"], 10, "{dialed}");

        let theirs = Workload::Go
            .start_at(&api, None, &["fetch-jwt", "web"])
            .event("jwt");
        let theirs = theirs["svids"][0]["token"].as_str().unwrap().to_owned();
        assert_eq!(
            Workload::Python
                .start(&ours, &["validate-jwt", "web", &theirs])
                .event("valid")["id"],
            db_id
        );
        let token = token(&ours, Workload::Python, "db");
        let valid = Workload::Go
            .start_at(&api, None, &["validate-jwt", "db", &token])
            .event("valid");
        assert_eq!(valid["id"], web_id);
    }
}

fn free_ports() -> [u16; 2] {
    let bound = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    bound
        .each_ref()
        .map(|listener| listener.local_addr().unwrap().port())
}

fn server_config(dir: &Path, port: u16, endpoint: u16, shows: &Shows<'_>) -> String {
    let dir = dir.display();
    let profile = match shows {
        Shows::Svid => "profile \"https_spiffe\" {}".to_owned(),
        Shows::Web(web) => format!(
            "profile \"https_web\" {{ serving_cert_file {{ cert_file_path = \"{}\" key_file_path = \"{}\" file_sync_interval = \"1m\" }} }}",
            web.path("cert.pem").display(),
            web.path("key.pem").display()
        ),
    };
    format!(
        r#"server {{
  bind_address = "127.0.0.1"
  bind_port = "{port}"
  trust_domain = "{OTHER}"
  data_dir = "{dir}/server"
  socket_path = "{dir}/server.sock"
  log_level = "INFO"
  federation {{ bundle_endpoint {{ address = "127.0.0.1" port = {endpoint} {profile} }} }}
}}
plugins {{
  DataStore "sql" {{ plugin_data {{ database_type = "sqlite3" connection_string = "{dir}/datastore.sqlite3" }} }}
  KeyManager "memory" {{ plugin_data {{}} }}
  NodeAttestor "join_token" {{ plugin_data {{}} }}
}}
"#
    )
}

fn agent_config(dir: &Path, port: u16) -> String {
    let dir = dir.display();
    format!(
        r#"agent {{
  data_dir = "{dir}/agent"
  log_level = "INFO"
  server_address = "127.0.0.1"
  server_port = "{port}"
  socket_path = "{dir}/agent.sock"
  trust_bundle_path = "{dir}/bundle.pem"
  trust_domain = "{OTHER}"
}}
plugins {{
  KeyManager "memory" {{ plugin_data {{}} }}
  NodeAttestor "join_token" {{ plugin_data {{}} }}
  WorkloadAttestor "unix" {{ plugin_data {{}} }}
}}
"#
    )
}
