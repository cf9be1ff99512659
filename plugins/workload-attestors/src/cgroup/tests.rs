use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use muster_plugin_api::conformance;
use muster_plugin_api::fake::FakeCaller;

use super::*;
use crate::mountinfo::Mount;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Hierarchies in a folder: `unified`, `memory` and `systemd`; whoever runs the test plays root.
struct Host {
    folder: tempfile::TempDir,
    owner: u32,
}

impl Host {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["unified", "memory", "systemd"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let owner = fs::metadata(folder.path()).unwrap().uid();
        Self { folder, owner }
    }

    fn with(self, cgroup: &str) -> Self {
        fs::create_dir_all(self.folder.path().join(cgroup.replace("ID", ID))).unwrap();
        self
    }

    fn attestor(&self, owner: u32) -> Cgroup {
        let mount = |name: &str, kind: &str, super_options: &str| Mount {
            id: 1,
            root: "/".to_owned(),
            mount_point: self.folder.path().join(name).display().to_string(),
            kind: kind.to_owned(),
            super_options: super_options.to_owned(),
        };
        let mounts = vec![
            mount("memory", "cgroup", "rw,memory"),
            mount("systemd", "cgroup", "rw,xattr,name=systemd"),
            mount("unified", "cgroup2", "rw,nsdelegate"),
        ];
        Cgroup {
            hierarchies: Hierarchies::given(mounts, owner),
        }
    }

    async fn facts(&self, text: &str) -> Result<Vec<String>, AttestError> {
        self.facts_if(text, self.owner).await
    }

    async fn facts_if(&self, text: &str, owner: u32) -> Result<Vec<String>, AttestError> {
        let caller = self.process(text);
        let attestation = self.attestor(owner).attest(caller.caller()).await?;
        assert_eq!(attestation.facts.is_empty(), !attestation.gaps.is_empty());
        let facts = attestation
            .facts
            .iter()
            .map(|fact| fact.selector().to_string().replace(ID, "ID"));
        Ok(facts.collect())
    }

    fn process(&self, text: &str) -> FakeCaller {
        FakeCaller::new(self.folder.path())
            .cgroups(&text.replace("ID", ID))
            .build()
            .unwrap()
    }
}

#[tokio::test]
async fn a_container_is_known_by_the_unified_hierarchy() {
    let host = Host::new().with("unified/system.slice/docker-ID.scope/below");
    let facts = host
        .facts("0::/system.slice/docker-ID.scope/below\n")
        .await
        .unwrap();
    assert_eq!(facts, ["container:id:ID", "container:runtime:docker"]);
}

#[tokio::test]
async fn a_container_is_known_by_version_1_and_on_hybrid_hosts() {
    let host = Host::new().with("memory/docker/ID").with("systemd/docker/ID");
    let text = "12:memory:/docker/ID\n1:name=systemd:/docker/ID\n0::/system.slice/containerd.service\n";
    assert_eq!(
        host.facts(text).await.unwrap(),
        ["container:id:ID", "container:runtime:docker"]
    );
}

#[tokio::test]
async fn hierarchies_that_disagree_say_nothing() {
    let other = "f".repeat(64);
    let host = Host::new()
        .with("memory/docker/ID")
        .with(&format!("systemd/docker/{other}"));
    let text = format!("12:memory:/docker/ID\n1:name=systemd:/docker/{other}\n");
    assert!(matches!(host.facts(&text).await, Err(AttestError::Failed { .. })));
}

#[tokio::test]
async fn a_folder_of_somebody_else_is_no_container() {
    let host = Host::new().with("unified/docker/ID");
    let facts = host.facts_if("0::/docker/ID\n", host.owner + 1).await.unwrap();
    assert!(facts.is_empty());
}

#[tokio::test]
async fn a_link_or_a_missing_folder_is_no_container() {
    let host = Host::new().with("unified/elsewhere/ID");
    assert!(host.facts("0::/docker/ID\n").await.unwrap().is_empty());
    symlink("elsewhere", host.folder.path().join("unified/docker")).unwrap();
    assert!(!matches!(host.facts("0::/docker/ID\n").await, Ok(facts) if !facts.is_empty()));
}

#[tokio::test]
async fn user_made_names_are_no_containers() {
    let host = Host::new()
        .with("unified/user.slice/user-1000.slice/user@1000.service/docker-ID.scope")
        .with("unified/system.slice/mine.service/docker-ID.scope");
    for text in [
        "0::/user.slice/user-1000.slice/user@1000.service/docker-ID.scope\n",
        "0::/system.slice/mine.service/docker-ID.scope\n",
        "0::/../docker/ID\n",
        "garbage\n\u{fffd}:::\n",
        "",
    ] {
        assert!(host.facts(text).await.unwrap().is_empty(), "{text}");
    }
}

#[tokio::test]
async fn it_keeps_the_promises_of_a_workload_attestor() {
    let host = Host::new().with("unified/docker/ID");
    conformance::workload_attestor(&host.attestor(host.owner), &host.process("0::/docker/ID\n")).await;
    conformance::workload_attestor(&Cgroup::new(), &host.process("0::/init.scope\n")).await;
}

/// A folder of the host's real unified hierarchy, with a process in it.
struct RealContainer {
    folder: std::path::PathBuf,
    process: std::process::Child,
}

impl RealContainer {
    /// `None` without root or without a hierarchy that may be written.
    fn start() -> Option<Self> {
        let mountinfo = fs::read("/proc/self/mountinfo").unwrap();
        let mount = crate::mountinfo::mounts(&mountinfo)
            .find(|mount| mount.kind == "cgroup2" && mount.root == "/")?;
        let id = ID.replacen("0123", &format!("{:04x}", std::process::id() % 0x1_0000), 1);
        let folder = std::path::PathBuf::from(mount.mount_point)
            .join("docker")
            .join(id);
        fs::create_dir_all(&folder).ok()?;
        let process = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let container = Self { folder, process };
        fs::write(
            container.folder.join("cgroup.procs"),
            container.process.id().to_string(),
        )
        .ok()?;
        Some(container)
    }

    async fn facts(&self) -> Vec<String> {
        let proc_dir = std::path::PathBuf::from(format!("/proc/{}", self.process.id()));
        let text = fs::read_to_string(proc_dir.join("cgroup")).unwrap();
        let caller = FakeCaller::new(&proc_dir).cgroups(&text).build().unwrap();
        let attestation = Cgroup::new().attest(caller.caller()).await.unwrap();
        attestation
            .facts
            .iter()
            .map(|fact| fact.selector().to_string())
            .collect()
    }
}

impl Drop for RealContainer {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        for folder in [Some(self.folder.as_path()), self.folder.parent()]
            .into_iter()
            .flatten()
        {
            // The last of them may be a real dockerd's.
            fs::remove_dir(folder).ok();
        }
    }
}

#[tokio::test]
async fn a_place_in_the_real_hierarchy_counts_in_folders_of_root_only() {
    let Some(container) = RealContainer::start() else {
        eprintln!("left out: it needs root and a cgroup2 hierarchy that may be written");
        return;
    };
    let id = container.folder.file_name().unwrap().to_str().unwrap();
    assert_eq!(
        container.facts().await,
        [
            format!("container:id:{id}"),
            "container:runtime:docker".to_owned()
        ]
    );
    std::os::unix::fs::chown(&container.folder, Some(1000), None).unwrap();
    assert!(container.facts().await.is_empty());
}
