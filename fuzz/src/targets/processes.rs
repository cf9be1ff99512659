use crate::Target;

/// What the kernel says of a process: one of `stat`, `status`, `cgroup`, `mountinfo`. A process chooses parts of it (its name,
/// its cgroup's, its mounts'), and whoever runs an old kernel or a sandbox may show anything.
pub(super) const PROC: Target = Target {
    name: "proc",
    run: |input| {
        if let (Some(start_time), _) = muster_transport::fuzzing::proc_texts(input) {
            // The name ends at the last bracket: what counts stands behind it.
            let behind = input.rsplit(|byte| *byte == b')').next().unwrap_or_default();
            let found = String::from_utf8_lossy(behind);
            assert!(
                found
                    .split_whitespace()
                    .any(|field| field.parse() == Ok(start_time))
            );
        }
        muster_workload_attestors::fuzzing::proc_texts(input);
    },
    seeds: || {
        let mut seeds: Vec<_> = ["stat", "status", "cgroup", "mountinfo"]
            .into_iter()
            .filter_map(|file| std::fs::read(format!("/proc/self/{file}")).ok())
            .collect();
        let id = "0123456789abcdef".repeat(4);
        seeds.push(format!("0::/system.slice/docker-{id}.scope\n1:cpu:/docker/{id}\n").into_bytes());
        seeds.push(format!("0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-{id}.scope\n").into_bytes());
        seeds
    },
    words: &[
        ") ",
        "Uid:\t",
        "Groups:\t",
        "0::/",
        "/docker/",
        "/kubepods.slice/",
        " - ",
        "\\040",
        "4294967296",
        "..",
    ],
};
