//! A real dockerd starts a container, and its process gets the identity of that container.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use muster_tests::{Cluster, Process, Settings, Workload, need, need_root};
use nix::sys::signal::Signal;

/// A dockerd of a story's own.
pub(crate) struct Docker {
    socket: String,
    daemon: Option<Process>,
}

impl Docker {
    /// A daemon of our own, with everything below `dir`; none where dockerd is not installed.
    pub(crate) fn start(dir: &Path) -> Option<Self> {
        if !need("dockerd", Path::new("/usr/sbin/dockerd").exists()) {
            return None;
        }
        let at = |name: &str| dir.join(name).display().to_string();
        let socket = format!("unix://{}", at("docker.sock"));
        let mut command = Command::new("/usr/sbin/dockerd");
        command.args([
            "--data-root",
            &at("docker"),
            "--exec-root",
            &at("docker-exec"),
            "--pidfile",
            &at("docker.pid"),
        ]);
        command.args([
            "-H",
            &socket,
            "--iptables=false",
            "--ip6tables=false",
            "--bridge=none",
            "--storage-driver=vfs",
        ]);
        let daemon = Process::start("dockerd", &mut command);
        daemon.line("its API", |line| line.contains("API listen on"));
        Some(Self {
            socket,
            daemon: Some(daemon),
        })
    }

    /// Runs `docker`, which must succeed.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        let output = Command::new("docker")
            .arg("-H")
            .arg(&self.socket)
            .args(args)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "docker {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        output
    }

    /// The same, and what it printed.
    pub(crate) fn text(&self, args: &[&str]) -> String {
        String::from_utf8(self.run(args).stdout)
            .unwrap()
            .trim()
            .to_owned()
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            // In good order: it ends its containerd, which a kill would leave behind.
            daemon.signal(Signal::SIGTERM);
            daemon.ended();
        }
    }
}

#[test]
fn host_a_container_gets_the_identity_of_that_container() {
    if !need_root() || !Workload::Go.is_here() {
        return;
    }
    let cluster = Cluster::start(&Settings::default());
    let Some(docker) = Docker::start(cluster.path()) else {
        return;
    };
    let image = cluster.path().join("image");
    fs::create_dir_all(image.join("run/muster")).unwrap();
    fs::copy(Workload::Go.executable().unwrap(), image.join("client")).unwrap();
    let tar = cluster.path().join("image.tar").display().to_string();
    let packed = Command::new("tar")
        .args(["-C", &image.display().to_string(), "-cf", &tar, "."])
        .status()
        .unwrap();
    assert!(packed.success());
    docker.run(&["import", &tar, "muster-client"]);

    let volume = format!(
        "{}:/run/muster",
        cluster.workload_socket().parent().unwrap().display()
    );
    let create = |_: &str| {
        docker.text(&[
            "create",
            "--network",
            "none",
            "-v",
            &volume,
            "-e",
            "SPIFFE_ENDPOINT_SOCKET=unix:///run/muster/api.sock",
            "muster-client",
            "/client",
            "fetch-x509",
        ])
    };
    let (entitled, other) = (create("entitled"), create("other"));
    assert_eq!(entitled.len(), 64);
    cluster.register(
        "/in-container",
        &[&format!("container:id:{entitled}"), "container:runtime:docker"],
    );

    let said = docker.run(&["start", "-a", &entitled]);
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(said.contains("spiffe://example.org/in-container"), "{said}");

    let refused = Command::new("docker")
        .args(["-H", &docker.socket, "start", "-a", &other])
        .output()
        .unwrap();
    let said = String::from_utf8(refused.stdout).unwrap();
    assert!(said.contains("PermissionDenied"), "{said}");
}
