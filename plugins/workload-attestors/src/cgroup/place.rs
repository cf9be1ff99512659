//! Where the runtimes put their containers.

use std::fmt;

/// A container that a cgroup path speaks of.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Container {
    /// 64 lower-case hex digits.
    pub(super) id: String,
    /// Unknown where several runtimes use the same place.
    pub(super) runtime: Option<Runtime>,
    /// The container's own folder: the path up to where it was recognised.
    pub(super) folder: String,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Runtime {
    Docker,
    Podman,
    Containerd,
    Crio,
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Containerd => "containerd",
            Self::Crio => "crio",
        })
    }
}

impl Container {
    /// The container at `path`, which is a whole path from the root of its hierarchy. Whatever lies below the container's folder is the
    /// container's own affair; whatever lies above must be exactly the runtime's, so that nothing that looks alike counts elsewhere.
    pub(super) fn at(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        if parts
            .iter()
            .any(|part| part.is_empty() || *part == "." || *part == "..")
        {
            return None;
        }
        let (depth, id, runtime) = match parts.as_slice() {
            ["docker", id, ..] => (2, *id, Some(Runtime::Docker)),
            ["default", id, ..] => (2, *id, Some(Runtime::Containerd)),
            ["libpod_parent", name, ..] => (2, name.strip_prefix("libpod-")?, Some(Runtime::Podman)),
            ["machine.slice", name, ..] => (
                2,
                name.strip_prefix("libpod-")?.strip_suffix(".scope")?,
                Some(Runtime::Podman),
            ),
            ["system.slice", name, ..] => scope(name, 2)?,
            ["kubepods.slice", rest @ ..] => {
                // Up to two slices: the quality of service, and the pod.
                let slices = rest
                    .iter()
                    .take_while(|part| part.starts_with("kubepods-") && part.ends_with(".slice"))
                    .count();
                if slices > 2 {
                    return None;
                }
                scope(rest.get(slices)?, slices + 2)?
            }
            ["kubepods", "burstable" | "besteffort", pod, name, ..] if pod.starts_with("pod") => {
                in_pod(name, 4)
            }
            ["kubepods", pod, name, ..] if pod.starts_with("pod") => in_pod(name, 3),
            _ => return None,
        };
        let hex = id.len() == 64 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        hex.then(|| Self {
            id: id.to_owned(),
            runtime,
            folder: format!("/{}", parts[..depth].join("/")),
        })
    }
}

/// A scope that a runtime made through systemd.
fn scope(name: &str, depth: usize) -> Option<(usize, &str, Option<Runtime>)> {
    let name = name.strip_suffix(".scope")?;
    let prefixes = [
        ("docker-", Runtime::Docker),
        ("cri-containerd-", Runtime::Containerd),
        ("nerdctl-", Runtime::Containerd),
        ("crio-", Runtime::Crio),
    ];
    prefixes
        .iter()
        .find_map(|(prefix, runtime)| Some((depth, name.strip_prefix(prefix)?, Some(*runtime))))
}

/// A folder below a pod's: CRI-O names itself, the others don't.
fn in_pod(name: &str, depth: usize) -> (usize, &str, Option<Runtime>) {
    match name.strip_prefix("crio-") {
        Some(id) => (depth, id, Some(Runtime::Crio)),
        None => (depth, name, None),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn at(pattern: &str) -> Option<(Option<Runtime>, String)> {
        let found = Container::at(&pattern.replace("ID", ID))?;
        assert_eq!(found.id, ID);
        Some((found.runtime, found.folder.replace(ID, "ID")))
    }

    #[test]
    fn containers_are_where_the_runtimes_put_them() {
        let docker = Some(Runtime::Docker);
        let containerd = Some(Runtime::Containerd);
        let cases = [
            ("/docker/ID", docker, "/docker/ID"),
            ("/docker/ID/init/deeper", docker, "/docker/ID"),
            (
                "/system.slice/docker-ID.scope",
                docker,
                "/system.slice/docker-ID.scope",
            ),
            (
                "/system.slice/nerdctl-ID.scope",
                containerd,
                "/system.slice/nerdctl-ID.scope",
            ),
            ("/default/ID", containerd, "/default/ID"),
            (
                "/machine.slice/libpod-ID.scope/container",
                Some(Runtime::Podman),
                "/machine.slice/libpod-ID.scope",
            ),
            (
                "/libpod_parent/libpod-ID",
                Some(Runtime::Podman),
                "/libpod_parent/libpod-ID",
            ),
            (
                "/kubepods/burstable/pod1-2/ID",
                None,
                "/kubepods/burstable/pod1-2/ID",
            ),
            (
                "/kubepods/pod1-2/crio-ID",
                Some(Runtime::Crio),
                "/kubepods/pod1-2/crio-ID",
            ),
            (
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-ID.scope",
                containerd,
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-ID.scope",
            ),
        ];
        for (path, runtime, folder) in cases {
            assert_eq!(at(path), Some((runtime, folder.to_owned())), "{path}");
        }
    }

    #[test]
    fn what_only_looks_like_a_container_is_none() {
        let cases = [
            "/",
            "",
            "/ID",
            "docker/ID",
            "/docker/IDa",
            "/docker/../docker/ID",
            "/docker//ID",
            "/../docker/ID",
            "/docker/ID (deleted)",
            "/user.slice/user-1000.slice/user@1000.service/docker-ID.scope",
            "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope",
            "/user.slice/docker/ID",
            "/system.slice/mine.service/docker-ID.scope",
            "/system.slice/docker-ID.service",
            "/system.slice/my-docker-ID.scope",
            "/machine.slice/libpod-conmon-ID.scope",
            "/machine.slice/docker-ID.scope",
            "/kubepods.slice/mine/cri-containerd-ID.scope",
            "/kubepods.slice/kubepods-a.slice/kubepods-b.slice/kubepods-c.slice/cri-containerd-ID.scope",
            "/kubepods/mine/ID",
            "/kubepods/burstable/mine/ID",
        ];
        for path in cases {
            assert_eq!(at(path), None, "{path}");
        }
        assert_eq!(Container::at(&format!("/docker/{}", ID.to_uppercase())), None);
    }

    #[test]
    fn the_shallowest_container_counts() {
        let inner = "f".repeat(64);
        let found = Container::at(&format!("/docker/{ID}/kubepods/pod1/{inner}")).unwrap();
        assert_eq!(found.id, ID);
    }

    proptest! {
        #[test]
        fn what_is_found_is_the_beginning_of_the_path(path in "(/(docker|kubepods|pod1|default|[a-f0-9]{64}|\\.\\.|system\\.slice|docker-[a-f0-9]{64}\\.scope)){0,5}") {
            if let Some(found) = Container::at(&path) {
                prop_assert!(path.starts_with(&found.folder));
                prop_assert!(!path.contains(".."));
                prop_assert!(found.folder.contains(&found.id));
            }
        }
    }
}
