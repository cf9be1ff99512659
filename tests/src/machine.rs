//! A machine of a story's own: a copy of a clean Debian, booted by systemd-nspawn.

mod install;
mod network;
mod packages;

use std::{
    fs,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

pub use self::{network::Network, packages::Packages};
use crate::{PATIENCE, Process, need, need_programs, need_root, root, until};

/// What commands in a machine find in their environment: what a login there would give them, and nothing of ours.
const ENVIRONMENT: [&str; 3] = [
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=/root",
    "LANG=C.UTF-8",
];
/// What systemd-nspawn ends with when the machine wants to be booted again.
const REBOOT: i32 = 133;

/// A running machine. Its systemd is a real one, with units, users and a journal; it shares nothing with this one but the
/// kernel. It is switched off when the story ends.
pub struct Machine {
    name: &'static str,
    network: Option<PathBuf>,
    nspawn: Option<Process>,
    leader: i32,
    dir: TempDir,
}

/// What a command in a machine did.
#[derive(Debug)]
pub struct Did {
    /// Whether it ended with 0.
    pub well: bool,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

impl Machine {
    /// Whether machines can be booted here; says why not.
    pub fn is_possible() -> bool {
        need_root()
            && need_programs(&["systemd-nspawn", "nsenter", "dpkg-deb", "dpkg-shlibdeps"])
            && need("the Debian that tests/machines/build makes", image().is_dir())
    }

    /// Boots a machine that has only itself to talk to.
    pub fn boot(name: &'static str) -> Self {
        Self::new(name, None)
    }

    /// Boots a machine in a network with others, under its address there.
    pub fn boot_in(network: &Network, name: &'static str) -> Self {
        Self::new(name, Some(network.namespace(name)))
    }

    fn new(name: &'static str, network: Option<PathBuf>) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("muster-machine-")
            .tempdir()
            .unwrap();
        let copied = Command::new("cp")
            .args(["-a", "--reflink=auto"])
            .arg(image())
            .arg(dir.path().join("root"))
            .status()
            .unwrap();
        assert!(copied.success(), "copying {}", image().display());
        let mut machine = Self {
            name,
            network,
            nspawn: None,
            leader: 0,
            dir,
        };
        machine.start_nspawn();
        machine
    }

    /// Its file system, as seen from here.
    pub fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// Runs a bash script as its root, which stops at the first command that fails.
    pub fn attempt(&self, script: &str) -> Did {
        let output = self.command(script).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Did {
            well: output.status.success(),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }

    /// The same for a script that must succeed; returns what it printed.
    ///
    /// # Panics
    /// When it fails; the text has what it said, and the end of the machine's journal.
    pub fn sh(&self, script: &str) -> String {
        let did = self.attempt(script);
        if !did.well {
            let journal = self.attempt("journalctl --no-pager --lines 60").out;
            panic!(
                "{}: {script}\n{}{}\n{journal}",
                self.name,
                did.out,
                did.err.trim_end()
            );
        }
        did.out
    }

    /// Starts a script that goes on beside the story.
    pub fn start(&self, what: &str, script: &str) -> Process {
        Process::start(&format!("{what} in {}", self.name), &mut self.command(script))
    }

    /// Boots it again, in good order.
    pub fn reboot(&mut self) {
        // The command's own connection may end before its answer comes.
        let _ = self.attempt("systemctl reboot");
        let mut nspawn = self.nspawn.take().expect("it runs");
        assert_eq!(nspawn.ended().code(), Some(REBOOT), "it did not ask to be booted");
        self.start_nspawn();
    }

    fn start_nspawn(&mut self) {
        let notify = self.dir.path().join("notify");
        let _ = fs::remove_file(&notify);
        let socket = UnixDatagram::bind(&notify).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut command = Command::new("systemd-nspawn");
        command
            .args([
                "--boot",
                "--quiet",
                "--register=no",
                "--keep-unit",
                "--console=pipe",
            ])
            .arg("--directory")
            .arg(self.root())
            .arg(format!("--machine={}-{}", self.name, std::process::id()))
            .arg(format!("--hostname={}", self.name))
            .env("NOTIFY_SOCKET", &notify);
        match &self.network {
            Some(namespace) => command.arg(format!("--network-namespace-path={}", namespace.display())),
            None => command.arg("--private-network"),
        };
        self.nspawn = Some(Process::start("systemd-nspawn", &mut command));
        self.leader = leader(&socket);
        // Degraded is what a Debian without a console of its own may be; the stories look at our units themselves.
        until("the machine's boot", || {
            let state = self.attempt("systemctl is-system-running || true").out;
            matches!(state.trim(), "running" | "degraded")
        });
    }

    /// Everything of the machine but its control group, which the machine's systemd keeps for units.
    fn command(&self, script: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--mount", "--uts", "--ipc", "--net", "--pid", "--target"])
            .arg(self.leader.to_string())
            // A command that hangs fails its story instead of holding up all others.
            .args(["timeout", "--foreground", "--kill-after=5"])
            .arg((2 * PATIENCE.as_secs()).to_string())
            .args(["env", "--ignore-environment"])
            .args(ENVIRONMENT)
            .args(["bash", "-euo", "pipefail", "-c", script]);
        command
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() && self.nspawn.is_some() {
            let journal = self.attempt("journalctl --no-pager --lines 80").out;
            eprintln!("--- journal of {}:\n{journal}", self.name);
        }
        // With its first process a machine ends, whole; systemd-nspawn then cleans up and ends too.
        if let Some(mut nspawn) = self.nspawn.take() {
            let first = nix::unistd::Pid::from_raw(self.leader);
            if nix::sys::signal::kill(first, nix::sys::signal::Signal::SIGKILL).is_ok() {
                nspawn.ended();
            }
        }
    }
}

/// The process id of the machine's systemd, from here.
fn leader(socket: &UnixDatagram) -> i32 {
    let mut buffer = [0; 4096];
    loop {
        let length = socket
            .recv(&mut buffer)
            .expect("systemd-nspawn says what it started");
        let said = String::from_utf8_lossy(&buffer[..length]);
        let found = said
            .lines()
            .find_map(|line| line.strip_prefix("X_NSPAWN_LEADER_PID="));
        if let Some(pid) = found {
            return pid.parse().expect("a process id");
        }
    }
}

/// Where `tests/run` keeps it.
fn image() -> PathBuf {
    let said = Command::new(root().join("tests/cache"))
        .output()
        .expect("a script of ours");
    let folder = String::from_utf8(said.stdout).expect("a path");
    Path::new(folder.trim()).join("machines/bookworm")
}
