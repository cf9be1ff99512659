//! What an operator does on a machine.

use std::{fs, path::PathBuf};

use super::{Machine, Packages};
use crate::TRUST_DOMAIN;

impl Machine {
    /// A machine with all packages, where the server serves and the node agent has joined it.
    pub fn with_server_and_agent(name: &'static str) -> Self {
        let machine = Self::boot(name);
        machine.install(&Packages::of_this_build().first());
        machine.start_server();
        machine.join();
        machine
    }

    /// Installs packages with dpkg, which fetches nothing.
    pub fn install(&self, debs: &[PathBuf]) {
        let names = self.carry(debs);
        self.sh(&format!("cd /root && dpkg -i {names} && rm {names}"));
    }

    /// Copies files to root's home; returns their names there.
    pub fn carry(&self, files: &[PathBuf]) -> String {
        let names = files.iter().map(|file| {
            let name = file.file_name().expect("a file").to_string_lossy().into_owned();
            fs::copy(file, self.root().join("root").join(&name)).unwrap();
            name
        });
        names.collect::<Vec<_>>().join(" ")
    }

    /// Configures the server with the one key it must be given, and starts it for good.
    pub fn start_server(&self) {
        self.sh(&format!(
            "echo 'trust_domain = \"{TRUST_DOMAIN}\"' >/etc/muster/server.toml
             systemctl enable --now muster-server"
        ));
    }

    /// Makes it a node of the server on it, by a token and the fingerprint, and starts the agent for good.
    pub fn join(&self) {
        self.sh("pin=$(muster bundle show | sed -n 's/^SHA-256 of .*: //p')
             muster token create | sed -n 's/^Token *//p' |
               muster-agent join --server localhost:8081 --token-file - --bundle-sha256 \"$pin\"
             systemctl enable --now muster-agent");
    }

    /// Registers `path` for processes of user `uid`.
    pub fn register(&self, path: &str, uid: u32) {
        self.sh(&format!(
            "node=$(muster node list --output json | grep -o 'spiffe://[^\"]*' | head -n 1)
             muster entry create spiffe://{TRUST_DOMAIN}{path} --parent \"$node\" --selector unix:uid:{uid}"
        ));
    }

    /// The main process of a unit of ours, which must run.
    pub fn main_pid(&self, unit: &str) -> u32 {
        let pid = self.property(unit, "MainPID").parse().expect("a number");
        assert_ne!(pid, 0, "{unit} does not run");
        pid
    }

    /// What systemd says of a unit.
    pub fn property(&self, unit: &str, name: &str) -> String {
        self.sh(&format!("systemctl show --value --property {name} {unit}"))
            .trim()
            .to_owned()
    }
}
