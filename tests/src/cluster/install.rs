//! How server and node agent are set up, as an operator does it.

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    process::{Command, Stdio},
};

use super::{Cluster, Settings};
use crate::binary;

impl Cluster {
    pub(super) fn write_server_config(&self, settings: &Settings) {
        let dir = self.path().display();
        let mut text = format!(
            "trust_domain = \"{}\"\ndata_dir = \"{dir}/server/data\"\n",
            self.trust_domain()
        );
        writeln!(text, "listen = \"{}\"", self.address).unwrap();
        writeln!(text, "admin_socket = \"{dir}/server/admin.sock\"").unwrap();
        text += &settings.server.replace("{dir}", &dir.to_string());
        fs::create_dir_all(self.path().join("server")).unwrap();
        fs::write(self.path().join("server.toml"), text).unwrap();
    }

    /// Where the node agent has its sockets and its state; the folders are made.
    pub(super) fn agent_config(&self) -> String {
        let dir = self.path().display();
        fs::create_dir_all(self.path().join("agent")).unwrap();
        let workloads = self.path().join("workload");
        fs::create_dir_all(&workloads).unwrap();
        fs::set_permissions(&workloads, fs::Permissions::from_mode(0o755)).unwrap();
        let mut text =
            format!("data_dir = \"{dir}/agent/data\"\nworkload_socket = \"{dir}/workload/api.sock\"\n");
        writeln!(text, "admin_socket = \"{dir}/agent/admin.sock\"").unwrap();
        text
    }

    /// As an operator does it: a token from the server, its bundle carried over by hand, `muster-agent join`.
    pub(super) fn join(&mut self, settings: &Settings) {
        let mut text = self.agent_config();
        text += settings.agent;
        let config = self.path().join("agent.toml");
        fs::write(&config, text).unwrap();

        let bundle = self.path().join("bundle.pem");
        fs::write(&bundle, self.bundle_pem()).unwrap();
        let token = self.block_on(self.token());
        // By standard input: on the command line everybody on the host could read it.
        let mut joining = Command::new(binary("muster-agent"))
            .args(["join", "--server", &self.address, "--token", "-", "--bundle"])
            .arg(&bundle)
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        joining
            .stdin
            .take()
            .expect("piped above")
            .write_all(token.as_bytes())
            .unwrap();
        let joined = joining.wait_with_output().unwrap();
        assert!(
            joined.status.success(),
            "joining: {}",
            String::from_utf8_lossy(&joined.stderr)
        );
        self.node = format!("spiffe://{}/spire/agent/join_token/{token}", self.trust_domain());
    }

    /// The server's authorities, as they are carried over by hand.
    pub(crate) fn bundle_pem(&self) -> String {
        let authorities = self.bundle().x509_authorities;
        authorities.iter().map(|authority| pem(&authority.asn1)).collect()
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

/// The first block of a PEM text.
pub fn from_pem(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    let base64: String = text
        .lines()
        .skip_while(|line| !line.starts_with("-----BEGIN"))
        .skip(1)
        .take_while(|line| !line.starts_with("-----END"))
        .collect();
    base64::engine::general_purpose::STANDARD.decode(base64).unwrap()
}
