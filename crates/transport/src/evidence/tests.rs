use std::os::{fd::AsFd, unix::net::UnixStream};

use super::*;
use crate::kernel::fake::{FakeKernel, FakeState};

struct Scene {
    kernel: Arc<FakeKernel>,
    process: Process,
    ours: Namespaces,
}

fn scene(change: impl FnOnce(&mut FakeState)) -> Scene {
    let fake = Arc::new(FakeKernel::new());
    fake.with(change);
    let (socket, _peer) = UnixStream::pair().unwrap();
    let kernel: Arc<dyn Kernel> = fake.clone();
    let process = Process::pin(&kernel, socket.as_fd()).unwrap();
    let ours = Namespaces::of_this_process(&*fake).unwrap();
    Scene {
        kernel: fake,
        process,
        ours,
    }
}

impl Scene {
    fn take(&self) -> Result<Evidence, Refusal> {
        Evidence::take(&self.process, &self.ours)
    }

    /// What the light check says after `change`.
    fn after(&self, evidence: &Evidence, change: impl FnOnce(&mut FakeState)) -> Result<(), Refusal> {
        self.kernel.with(change);
        evidence.check(&self.process, Look::Light)
    }
}

fn changed(what: Changed) -> Result<(), Refusal> {
    Err(Refusal::Changed {
        pid: 4242,
        changed: what,
    })
}

#[tokio::test]
async fn evidence_is_what_the_kernel_says() {
    let scene = scene(|_| {});
    let evidence = scene.take().unwrap();
    assert_eq!(evidence.standing, Standing::Native);
    assert_eq!(evidence.executable, Some(FileId { dev: 1, ino: 42 }));
    assert_eq!(evidence.start_time, 12_345);
    assert_eq!(
        evidence.uids,
        Ids {
            real: 1000,
            effective: 1000,
            saved: 1000
        }
    );
    assert_eq!(evidence.cgroups.unified, Some(7));
    assert_eq!(&*evidence.cgroups.text, b"0::/work.slice\n");
    evidence.check(&scene.process, Look::Light).unwrap();
}

#[tokio::test]
async fn the_quick_look_sees_another_program_and_the_whole_one_other_groups() {
    for has_pidfd_info in [true, false] {
        let look = |look, change: fn(&mut FakeState)| {
            let scene = scene(|state| state.has_pidfd_info = has_pidfd_info);
            let evidence = scene.take().unwrap();
            scene.kernel.with(change);
            evidence.check(&scene.process, look)
        };
        for every in [Look::Program, Look::Light, Look::Whole] {
            assert_eq!(look(every, |_| {}), Ok(()));
            assert_eq!(
                look(every, |state| state.peer.executable.ino = 43),
                changed(Changed::Executable)
            );
        }
        for groups in ["4 24 27 ", "4 ", ""] {
            let scene = scene(|state| state.has_pidfd_info = has_pidfd_info);
            let evidence = scene.take().unwrap();
            scene.kernel.with(|state| state.peer.groups = groups.to_owned());
            assert_eq!(
                evidence.check(&scene.process, Look::Whole),
                changed(Changed::Groups)
            );
        }
        let ended = look(Look::Program, |state| {
            state.alive = false;
            state.peer.executable.ino = 43;
        });
        assert_eq!(ended, Err(Refusal::Ended { pid: 4242 }));
    }
}

#[tokio::test]
async fn each_thing_that_can_change_is_noticed_with_old_and_new_kernels() {
    for has_pidfd_info in [true, false] {
        let scene = |change: fn(&mut FakeState)| {
            let scene = scene(|state| state.has_pidfd_info = has_pidfd_info);
            let evidence = scene.take().unwrap();
            scene.after(&evidence, change)
        };
        assert_eq!(scene(|_| {}), Ok(()));
        assert_eq!(
            scene(|state| state.peer.executable.ino = 43),
            changed(Changed::Executable)
        );
        assert_eq!(
            scene(|state| state.peer.executable.dev = 2),
            changed(Changed::Executable)
        );
        assert_eq!(
            scene(|state| state.peer.ids = [1000, 0, 0]),
            changed(Changed::Ids)
        );
        assert_eq!(
            scene(|state| state.peer.user_ns = "user:own".into()),
            changed(Changed::UserNamespace)
        );
        let moved = |state: &mut FakeState| {
            state.peer.cgroup = "0::/other.slice\n".into();
            state.peer.cgroup_id = 8;
        };
        assert_eq!(scene(moved), changed(Changed::Cgroup));
        assert_eq!(
            scene(|state| state.alive = false),
            Err(Refusal::Ended { pid: 4242 })
        );
    }
}

#[tokio::test]
async fn a_move_in_an_old_hierarchy_is_noticed_beside_the_unified_one() {
    let hybrid = "4:memory:/docker/aa\n0::/\n";
    let scene = scene(|state| state.peer.cgroup = hybrid.into());
    let evidence = scene.take().unwrap();
    let moved = scene.after(&evidence, |state| state.peer.cgroup = hybrid.replace("aa", "bb"));
    assert_eq!(moved, changed(Changed::Cgroup));
}

#[tokio::test]
async fn a_foreign_caller_has_no_executable() {
    let scene = scene(|state| state.peer.user_ns = "user:own".into());
    let evidence = scene.take().unwrap();
    assert_eq!(evidence.standing, Standing::Foreign(ForeignReason::UserNamespace));
    assert_eq!(evidence.executable, None);
    // And may run whatever it likes.
    assert_eq!(
        scene.after(&evidence, |state| state.peer.executable.ino = 43),
        Ok(())
    );
    assert_eq!(
        scene.after(&evidence, |state| state.peer.cgroup_id = 9),
        changed(Changed::Cgroup)
    );
}

#[tokio::test]
async fn a_process_that_leaves_after_its_executable_was_read_is_foreign() {
    // It could have shown a forged executable only from within its own user namespace, so that is read second.
    let scene = scene(|state| state.after_executable = Some(|state| state.peer.user_ns = "user:own".into()));
    assert_eq!(scene.take().unwrap().executable, None);
}

#[tokio::test]
async fn what_may_not_be_looked_at_leaves_only_what_an_exec_cannot_change() {
    let scene = scene(|state| state.peer.hidden = true);
    let evidence = scene.take().unwrap();
    assert_eq!(evidence.standing, Standing::Foreign(ForeignReason::Unreadable));
    assert_eq!((evidence.executable, evidence.user_ns), (None, None));
    assert_eq!(evidence.uids.real, 1000);
    evidence.check(&scene.process, Look::Light).unwrap();
}

#[tokio::test]
async fn nothing_read_of_a_process_that_ended_meanwhile_counts() {
    let scene = scene(|state| state.after_executable = Some(|state| state.alive = false));
    assert_eq!(scene.take(), Err(Refusal::Ended { pid: 4242 }));
}

#[tokio::test]
async fn without_a_peer_pidfd_the_pid_is_opened() {
    let scene = scene(|state| state.has_peer_pidfd = false);
    assert_eq!(scene.kernel.with(|state| state.calls["open_pidfd"]), 1);
    scene.take().unwrap();
}

#[test]
fn the_start_time_is_found_behind_any_name() {
    let stat = |name: &str| format!("7 ({name}) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 9876 1000 1\n");
    for name in [
        "sh",
        "a) S 1 2 3",
        "((",
        ") 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 (",
        "",
    ] {
        assert_eq!(start_time(stat(name).as_bytes()).unwrap(), 9876, "{name}");
    }
    for broken in [
        "",
        "7 sh S 1",
        "7 (sh",
        "7 (sh) S 1 2",
        "7 (sh) S 1 7 7 0 -1 4 1 0 0 0 0 0 0 0 20 0 1 0 x 1\n",
    ] {
        start_time(broken.as_bytes()).unwrap_err();
    }
}

#[test]
fn ids_are_read_from_their_own_line_only() {
    let status = b"Name:\tUid:\t0\t0\t0\nUmask:\t0022\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\n";
    assert_eq!(status_ids(status, b"Uid:").unwrap(), [1, 2, 3]);
    assert_eq!(status_ids(status, b"Gid:").unwrap(), [5, 6, 7]);
    for broken in [
        "",
        "Uid:\n",
        "Uid:\t1\t2\n",
        "Uid:\t1\t2\t-3\n",
        "Uid:\t1\t2\t4294967296\n",
    ] {
        status_ids(broken.as_bytes(), b"Uid:").unwrap_err();
    }
}
