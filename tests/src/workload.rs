use std::{path::PathBuf, process::Command};

use crate::{Cluster, Process, binary, client};

/// One of the unchanged clients: a SPIFFE library of somebody else in a process of its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Workload {
    /// go-spiffe.
    Go,
    /// py-spiffe on grpcio.
    Python,
    /// The `spiffe` crate.
    Rust,
    /// java-spiffe on grpc-java.
    Java,
}

impl Workload {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Go, Self::Python, Self::Rust, Self::Java];

    /// Whether it is installed here; says so on standard output when it is not.
    pub fn is_here(self) -> bool {
        crate::need(
            &format!("the {self:?} client, which tests/run installs"),
            self.program().is_some(),
        )
    }

    /// Starts it as the user who runs the tests.
    pub fn start(self, cluster: &Cluster, args: &[&str]) -> Process {
        self.start_as(cluster, None, args)
    }

    /// Starts it, as another user if one is named.
    pub fn start_as(self, cluster: &Cluster, uid: Option<u32>, args: &[&str]) -> Process {
        self.start_at(&cluster.endpoint(), uid, args)
    }

    /// Starts it on any Workload API, as another user if one is named.
    pub fn start_at(self, endpoint: &str, uid: Option<u32>, args: &[&str]) -> Process {
        let program = self.program().expect("asked for with is_here before");
        let mut command = match uid {
            Some(uid) => crate::as_user(&program[0], uid),
            None => Command::new(&program[0]),
        };
        command
            .args(&program[1..])
            .args(args)
            .env("SPIFFE_ENDPOINT_SOCKET", endpoint);
        Process::start(&format!("{self:?} client {args:?}"), &mut command)
    }

    /// What the entry of this client must ask for to mean its executable.
    pub fn executable(self) -> Option<PathBuf> {
        self.program()
            .and_then(|program| std::fs::canonicalize(&program[0]).ok())
    }

    fn program(self) -> Option<Vec<PathBuf>> {
        match self {
            Self::Go => client("go-client").map(|path| vec![path]),
            Self::Python => client("python/bin/python").map(|path| {
                vec![
                    path,
                    "-W".into(),
                    "ignore".into(),
                    crate::root().join("tests/clients/python/client.py"),
                ]
            }),
            Self::Rust => Some(vec![binary("rust-client")]),
            Self::Java => client("java/bin/java").map(|java| {
                let [classes, jars] = ["classes", "lib/*"].map(|part| {
                    let folder = client("java").expect("java lies in it").join(part);
                    folder.display().to_string()
                });
                let path = format!("{classes}:{jars}");
                vec![java, "-cp".into(), path.into(), "Client".into()]
            }),
        }
    }
}
