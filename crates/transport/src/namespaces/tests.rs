use super::*;
use crate::kernel::fake::FakeKernel;

/// A kernel whose peer is in PID namespace `pid`, below those of `chain` (name, owner), the last of them our own.
fn kernel(pid: &str, chain: &[(&str, &str, Option<&str>)]) -> FakeKernel {
    let kernel = FakeKernel::new();
    kernel.with(|state| {
        state.peer.pid_ns = pid.into();
        for (name, owner, parent) in chain {
            state
                .pid_namespaces
                .insert((*name).into(), ((*owner).into(), parent.map(Into::into)));
        }
    });
    kernel
}

fn standing(kernel: &FakeKernel, ours: &Namespaces) -> io::Result<Standing> {
    let peer = kernel.open_proc(4242)?;
    let user = kernel.namespace(peer.as_fd(), Namespace::User)?;
    let pid = kernel.namespace(peer.as_fd(), Namespace::Pid)?;
    ours.standing(kernel, peer.as_fd(), user, pid)
}

fn judged(kernel: &FakeKernel) -> Standing {
    standing(kernel, &Namespaces::of_this_process(kernel).unwrap()).unwrap()
}

const FOREIGN_PID: Standing = Standing::Foreign(ForeignReason::PidNamespace);

#[test]
fn a_process_in_our_namespaces_is_native() {
    assert_eq!(judged(&kernel("pid:ours", &[])), Standing::Native);
}

#[test]
fn a_container_in_our_user_namespace_is_native() {
    let nested = [
        ("pid:inner", "user:ours", Some("pid:outer")),
        ("pid:outer", "user:ours", Some("pid:ours")),
    ];
    assert_eq!(judged(&kernel("pid:inner", &nested)), Standing::Native);
}

#[test]
fn one_foreign_owner_between_it_and_us_makes_a_process_foreign() {
    let nested = [
        ("pid:inner", "user:ours", Some("pid:outer")),
        ("pid:outer", "user:theirs", Some("pid:ours")),
    ];
    assert_eq!(judged(&kernel("pid:inner", &nested)), FOREIGN_PID);
    assert_eq!(judged(&kernel("pid:outer", &nested)), FOREIGN_PID);
}

#[test]
fn another_user_namespace_is_foreign_whatever_the_pid_namespace() {
    let kernel = kernel("pid:ours", &[]);
    kernel.with(|state| state.peer.user_ns = "user:theirs".into());
    assert_eq!(judged(&kernel), Standing::Foreign(ForeignReason::UserNamespace));
}

#[test]
fn a_pid_namespace_that_does_not_lead_up_to_ours_is_foreign() {
    assert_eq!(
        judged(&kernel("pid:beside", &[("pid:beside", "user:ours", None)])),
        FOREIGN_PID
    );
}

#[test]
fn a_circle_of_namespaces_ends_the_walk() {
    let circle = [
        ("pid:a", "user:ours", Some("pid:b")),
        ("pid:b", "user:ours", Some("pid:a")),
    ];
    assert_eq!(judged(&kernel("pid:a", &circle)), FOREIGN_PID);
}

#[test]
fn a_verdict_is_remembered_and_pins_its_namespace() {
    let kernel = kernel("pid:inner", &[("pid:inner", "user:ours", Some("pid:ours"))]);
    let ours = Namespaces::of_this_process(&kernel).unwrap();
    for _ in 0..3 {
        assert_eq!(standing(&kernel, &ours).unwrap(), Standing::Native);
    }
    assert_eq!(kernel.with(|state| state.calls["namespace_owner"]), 1);
    let verdicts = ours.verdicts.lock().unwrap();
    let (id, verdict) = verdicts.iter().next().unwrap();
    assert_eq!(kernel.namespace_id(verdict._pinned.as_fd()).unwrap(), *id);
}

#[test]
fn more_namespaces_than_are_remembered_are_judged_all_the_same() {
    let kernel = FakeKernel::new();
    let ours = Namespaces::of_this_process(&kernel).unwrap();
    for number in 0..REMEMBERED + 10 {
        let name = format!("pid:{number}");
        kernel.with(|state| {
            state
                .pid_namespaces
                .insert(name.clone(), ("user:ours".into(), Some("pid:ours".into())));
            state.peer.pid_ns = name;
        });
        assert_eq!(standing(&kernel, &ours).unwrap(), Standing::Native);
    }
    assert!(ours.verdicts.lock().unwrap().len() <= REMEMBERED);
}
