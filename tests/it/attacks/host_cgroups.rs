//! Control groups that are named like containers. Root delegates a subtree.

use std::{
    fs,
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
};

use muster_tests::{Cluster, Process, Settings, need, need_root};

use super::{command, earns, won};

const CONTAINER: &str = "4e0b0d7b2a5c1f96a3d84e0b0d7b2a5c1f96a3d84e0b0d7b2a5c1f96a3d8aaaa";
const USER: u32 = 1000;

#[test]
fn host_a_group_that_a_user_named_like_a_container_is_none() {
    if !need_root() {
        return;
    }
    let root = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
        .into_iter()
        .map(Path::new)
        .find(|root| root.join("cgroup.procs").exists());
    need("a unified hierarchy of control groups", root.is_some());
    let Some(root) = root else { return };
    let cluster = Cluster::start(&Settings::default());
    cluster.register("/container", &[&format!("container:id:{CONTAINER}")]);
    cluster.register("/user", &[&format!("unix:uid:{USER}")]);
    // When the agent has the entry of root's callers it has the others, too.
    cluster.register("/root", &["unix:uid:0"]);
    earns(&cluster, 1);
    let delegated = Delegated(root.join(format!("muster-story-{}", std::process::id())));
    for name in [
        format!("docker-{CONTAINER}.scope"),
        CONTAINER.to_owned(),
        format!("docker/{CONTAINER}"),
        format!("system.slice/docker-{CONTAINER}.scope"),
        format!("libpod-{CONTAINER}.scope/container"),
        format!("kubepods.slice/kubepods-pod1.slice/cri-containerd-{CONTAINER}.scope"),
    ] {
        let group = delegated.0.join(&name);
        fs::create_dir_all(&group).unwrap();
        let mut at = group.clone();
        while at.starts_with(&delegated.0) {
            chown(&at, Some(USER), Some(USER)).unwrap();
            at.pop();
        }
        let mut caller = command(&cluster, "honest", &[]);
        let procs = fs::OpenOptions::new()
            .write(true)
            .open(group.join("cgroup.procs"))
            .unwrap();
        caller.uid(USER).gid(USER);
        let caller = in_group(caller, procs);
        // It is served as the user it is; were the group believed, it would get two.
        let caller = Process::start(&name, &mut { caller });
        let event = caller.event("svid");
        assert!(won(caller));
        assert!(event["bytes"].as_u64().unwrap() < 3_000, "{name}: {event}");
    }
}

/// Runs `command` in the control group whose `cgroup.procs` this is.
fn in_group(mut command: std::process::Command, procs: fs::File) -> std::process::Command {
    use std::io::Write;
    #[expect(unsafe_code, reason = "a child must enter its group before it execs")]
    // SAFETY: between fork and exec it makes one write call and allocates nothing.
    unsafe {
        command.pre_exec(move || (&procs).write_all(b"0"));
    }
    command
}

/// A subtree, removed with all its groups at the end.
struct Delegated(PathBuf);

impl Drop for Delegated {
    fn drop(&mut self) {
        fn remove(group: &Path) {
            for entry in fs::read_dir(group).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    remove(&entry.path());
                }
            }
            let _ = fs::remove_dir(group);
        }
        remove(&self.0);
    }
}
