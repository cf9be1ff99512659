//! Processes that try to be taken for another one. Each round is a real process that connects and then cheats; the
//! program it wants to pass for is `/bin/sleep`.

mod attacker;

use std::{
    io,
    os::unix::{fs::MetadataExt, process::CommandExt},
    path::Path,
    process::{Child, Command, Stdio},
};

use muster_transport::{Evidence, Look, PROOF_TIMEOUT, Presence, Refusal, Standing, UdsLimits};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::{Pid, Uid},
};
use tokio::{sync::oneshot, task::JoinSet};

use self::attacker::Role;
use crate::service::Serving;

/// Rounds of each race.
const ROUNDS: usize = 200;

/// Rounds side by side: more than cores, so that the scheduler mixes them.
const ABREAST: usize = 8;

/// Whether the door takes the connection only when the attacker has become what it wants to pass for.
#[derive(Clone, Copy, Debug)]
enum Start {
    Waiting,
    Racing,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_was_execed_into_is_not_present() {
    race(Role::ExecSilent, |refusal| {
        !matches!(refusal, Refusal::OtherSender { .. })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_cannot_answer_for_the_program_that_its_parent_became() {
    race(Role::ExecChildAnswers, |refusal| {
        matches!(refusal, Refusal::OtherSender { .. })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_prepared_before_the_exec_are_worthless() {
    race(Role::ExecPrepared, |refusal| {
        !matches!(refusal, Refusal::OtherSender { .. })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_passed_connection_is_closed_at_the_strangers_first_byte() {
    race(Role::PassConnection, |refusal| {
        matches!(refusal, Refusal::OtherSender { .. })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_on_its_parents_connection_is_a_stranger() {
    race(Role::ChildSends, |refusal| {
        matches!(refusal, Refusal::OtherSender { .. })
    })
    .await;
}

#[tokio::test]
async fn passed_descriptors_are_not_taken_and_end_the_connection() {
    let mut serving = Serving::start();
    let attack = Attack::start(Role::SendDescriptor, &serving.socket());
    let presence = serving.connections.recv().await.unwrap();
    let refusal = presence.proven(PROOF_TIMEOUT).await.unwrap_err();
    assert!(matches!(refusal, Refusal::Descriptors { .. }), "{refusal:?}");
    attack.has_lost().await;
}

#[tokio::test]
async fn an_honest_process_wins_with_the_attackers_own_means() {
    // Otherwise the others would lose because their HTTP/2 is wrong.
    let mut serving = Serving::start();
    let attack = Attack::start(Role::Honest, &serving.socket());
    let presence = serving.connections.recv().await.unwrap();
    let evidence = presence.proven(PROOF_TIMEOUT).await.unwrap();
    assert_eq!(evidence.standing, Standing::Native);
    assert!(attack.output().await.contains(attacker::WON));
}

#[tokio::test]
async fn a_process_that_execs_after_its_proof_is_noticed_and_may_not_renew() {
    let mut serving = Serving::start();
    let mut attack = Attack::start(Role::ProvenThenExec, &serving.socket());
    let presence = serving.connections.recv().await.unwrap();
    let before = presence.proven(PROOF_TIMEOUT).await.unwrap();
    attack.until_execed().await;
    let refusal = presence.still(&before, Look::Light).unwrap_err();
    assert!(
        matches!(refusal, Refusal::Changed { .. }) && !refusal.is_temporary(),
        "{refusal:?}"
    );
    presence.evidence().unwrap_err();
    presence.renew(PROOF_TIMEOUT).await.unwrap_err();
}

#[tokio::test]
async fn a_process_in_a_user_namespace_of_its_own_is_foreign_and_has_no_executable() {
    let mut serving = Serving::start();
    let attack = Attack::start(Role::OwnUserNamespace, &serving.socket());
    let presence = serving.connections.recv().await.unwrap();
    let evidence = presence.proven(PROOF_TIMEOUT).await.unwrap();
    assert!(matches!(evidence.standing, Standing::Foreign(_)));
    assert_eq!(evidence.executable, None);
    assert_eq!(
        evidence.uids.real,
        Uid::effective().as_raw(),
        "as the host sees it"
    );
    attack.output().await;
}

#[tokio::test]
async fn a_process_that_takes_over_a_pid_is_not_the_one_that_connected() {
    if !Uid::effective().is_root() {
        return; // Only root chooses pids.
    }
    for _ in 0..ROUNDS {
        let (open, gate) = oneshot::channel();
        let mut serving = Serving::with(UdsLimits::default(), Some(gate));
        let mut attack = Attack::start(Role::LeaveToChild, &serving.socket());
        let pid = attack.child.id();
        attack.child.wait().unwrap();
        let Some(mut victim) = take_pid(pid) else {
            continue; // Somebody else got the number: no attack, no matter.
        };
        open.send(()).unwrap();
        attack.has_lost().await;
        if let Ok(presence) = serving.connections.try_recv() {
            presence.proven(PROOF_TIMEOUT).await.unwrap_err();
        }
        victim.kill().unwrap();
        victim.wait().unwrap();
    }
}

/// Has `role` try [`ROUNDS`] times; each must end in a refusal that is `as_expected`, and win nothing.
async fn race(role: Role, as_expected: fn(&Refusal) -> bool) {
    let mut rounds = JoinSet::new();
    for round in 0..ROUNDS {
        if rounds.len() == ABREAST {
            rounds.join_next().await.unwrap().unwrap();
        }
        let start = if round % 2 == 0 {
            Start::Waiting
        } else {
            Start::Racing
        };
        rounds.spawn(async move {
            let refusal = play(role, start)
                .await
                .expect_err("the wrong process was taken for present");
            // In the middle of its exec a process of several threads shows no executable.
            let halfway = matches!(start, Start::Racing) && matches!(refusal, Refusal::Unreadable { .. });
            assert!(
                halfway || as_expected(&refusal),
                "{role:?} {start:?}: {refusal:?}"
            );
        });
    }
    rounds.join_all().await;
}

async fn play(role: Role, start: Start) -> Result<std::sync::Arc<Evidence>, Refusal> {
    let (open, gate) = oneshot::channel();
    let mut serving = Serving::with(UdsLimits::default(), Some(gate));
    let mut attack = Attack::start(role, &serving.socket());
    if let Start::Waiting = start {
        attack.until_execed().await;
    }
    open.send(()).unwrap();
    let pid = i32::try_from(attack.child.id()).unwrap();
    let mut lost = std::pin::pin!(attack.has_lost());
    let presence: Presence = tokio::select! {
        biased;
        presence = serving.connections.recv() => presence.unwrap(),
        // On a busy machine it may end before the door takes its connection, which then is turned away.
        () = &mut lost => return Err(Refusal::Ended { pid }),
    };
    let outcome = presence.proven(PROOF_TIMEOUT).await;
    lost.await;
    outcome
}

struct Attack {
    role: Role,
    child: Child,
}

impl Attack {
    /// Runs this test binary again as an attacker, in a process group of its own.
    fn start(role: Role, socket: &Path) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "attacks::attacker::attacker",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(attacker::ROLE, format!("{role:?}"))
            .env(attacker::SOCKET, socket)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        Self { role, child }
    }

    /// Waits until the attacker runs the program that it wants to pass for, if it does that.
    async fn until_execed(&mut self) {
        let sleep = std::fs::metadata("/bin/sleep").unwrap().ino();
        let exe = format!("/proc/{}/exe", self.child.id());
        // There is nothing to watch an exec by.
        while self.role.execs()
            && !std::fs::metadata(&exe).is_ok_and(|exe| exe.ino() == sleep)
            && self.child.try_wait().unwrap().is_none()
        {
            tokio::task::yield_now().await;
        }
    }

    /// All that it and its children wrote until the last of them ended.
    async fn output(mut self) -> String {
        let output = self.child.stdout.take().unwrap();
        tokio::task::spawn_blocking(move || io::read_to_string(output))
            .await
            .unwrap()
            .unwrap()
    }

    async fn has_lost(self) {
        let output = self.output().await;
        assert!(!output.contains(attacker::WON), "{output}");
    }
}

impl Drop for Attack {
    fn drop(&mut self) {
        // The group ends with its last process, which may have been long ago.
        let _ = killpg(
            Pid::from_raw(i32::try_from(self.child.id()).unwrap()),
            Signal::SIGKILL,
        );
        let _ = self.child.wait();
    }
}

/// Starts a victim that has this very pid.
fn take_pid(pid: u32) -> Option<Child> {
    for _ in 0..20 {
        std::fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).unwrap();
        let mut victim = Command::new("/bin/sleep").arg("60").spawn().unwrap();
        if victim.id() == pid {
            return Some(victim);
        }
        victim.kill().unwrap();
        victim.wait().unwrap();
    }
    None
}
