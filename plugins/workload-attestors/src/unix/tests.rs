use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use muster_plugin_api::fake::FakeCaller;
use muster_plugin_api::{FileId, Ids, conformance};

use super::*;

/// A real process that waits for its input to end.
struct Process(Child);

impl Process {
    fn run(program: &Path) -> Self {
        let mut command = Command::new(program);
        Self(
            command
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .spawn()
                .unwrap(),
        )
    }

    fn caller(&self) -> FakeCaller {
        let me = fs::metadata(format!("/proc/{}", self.0.id())).unwrap();
        self.caller_as(Ids::same(me.uid()), Ids::same(me.gid()))
    }

    fn caller_as(&self, uids: Ids, gids: Ids) -> FakeCaller {
        let folder = format!("/proc/{}", self.0.id());
        // The child runs its own program when its link says so; until then it is a copy of the test.
        let own = fs::read_link("/proc/self/exe").unwrap();
        while fs::read_link(format!("{folder}/exe")).unwrap() == own {
            std::thread::yield_now();
        }
        let exe = fs::metadata(format!("{folder}/exe")).unwrap();
        FakeCaller::new(Path::new(&folder))
            .pid(self.0.id())
            .uids(uids)
            .gids(gids)
            .executable(FileId {
                device: exe.dev(),
                inode: exe.ino(),
            })
            .build()
            .unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn program(folder: &Path, name: &str) -> std::path::PathBuf {
    let path = folder.join(name);
    // Copied by another process: a file that this one has open for writing is open in what the other tests fork, too,
    // and the kernel runs no program that is.
    let copied = Command::new("cp").arg("/bin/cat").arg(&path).status().unwrap();
    assert!(copied.success());
    fs::canonicalize(path).unwrap()
}

fn unix() -> Unix {
    Unix::new(UnixSettings::complete()).unwrap()
}

async fn facts(caller: &FakeCaller) -> Vec<String> {
    let attestation = unix().attest(caller.caller()).await.unwrap();
    attestation
        .facts
        .iter()
        .map(|fact| fact.selector().value().to_owned())
        .collect()
}

fn value<'a>(facts: &'a [String], word: &str) -> Option<&'a str> {
    facts
        .iter()
        .find_map(|fact| fact.strip_prefix(word)?.strip_prefix(':'))
}

fn digest(path: &Path) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &fs::read(path).unwrap());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_process_is_known_by_its_user_and_by_what_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let path = program(folder.path(), "workload");
    let process = Process::run(&path);
    let facts = facts(&process.caller()).await;
    let me = fs::metadata("/proc/self").unwrap();
    assert_eq!(value(&facts, "uid"), Some(me.uid().to_string().as_str()));
    assert_eq!(value(&facts, "gid"), Some(me.gid().to_string().as_str()));
    assert_eq!(value(&facts, "path"), path.to_str());
    assert_eq!(value(&facts, "sha256"), Some(digest(&path).as_str()));
    if me.uid() == 0 {
        assert_eq!(
            (value(&facts, "user"), value(&facts, "group")),
            (Some("root"), Some("root"))
        );
    }
}

#[tokio::test]
async fn a_deleted_program_keeps_its_hash_and_loses_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = program(folder.path(), "workload");
    let hash = digest(&path);
    let process = Process::run(&path);
    let caller = process.caller();
    fs::remove_file(&path).unwrap();
    let facts = facts(&caller).await;
    assert_eq!(value(&facts, "path"), None);
    assert_eq!(value(&facts, "sha256"), Some(hash.as_str()));
}

#[tokio::test]
async fn a_program_replaced_while_running_is_the_old_one_and_has_no_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = program(folder.path(), "workload");
    let (hash, other) = (digest(&path), folder.path().join("other"));
    let process = Process::run(&path);
    let caller = process.caller();
    fs::write(&other, "#!/bin/true\n").unwrap();
    fs::rename(&other, &path).unwrap();
    let facts = facts(&caller).await;
    assert_eq!(value(&facts, "path"), None);
    assert_eq!(value(&facts, "sha256"), Some(hash.as_str()));
}

#[tokio::test]
async fn a_program_called_deleted_is_not_taken_for_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = program(folder.path(), "workload (deleted)");
    let process = Process::run(&path);
    assert_eq!(value(&facts(&process.caller()).await, "path"), path.to_str());
}

#[tokio::test]
async fn a_program_that_was_exchanged_since_its_evidence_has_no_executable_facts() {
    let folder = tempfile::tempdir().unwrap();
    let path = program(folder.path(), "workload");
    let process = Process::run(&path);
    let other = fs::metadata("/bin/sh").unwrap();
    let caller = FakeCaller::new(Path::new(&format!("/proc/{}", process.0.id())))
        .executable(FileId {
            device: other.dev(),
            inode: other.ino(),
        })
        .build()
        .unwrap();
    let facts = facts(&caller).await;
    assert_eq!((value(&facts, "path"), value(&facts, "sha256")), (None, None));
    assert!(value(&facts, "uid").is_some());
}

#[tokio::test]
async fn a_foreign_caller_has_its_uid_and_no_executable_facts() {
    let folder = tempfile::tempdir().unwrap();
    let path = program(folder.path(), "workload");
    let process = Process::run(&path);
    let exe = fs::metadata(&path).unwrap();
    let caller = FakeCaller::new(Path::new(&format!("/proc/{}", process.0.id())))
        .uids(Ids {
            real: 1000,
            effective: 0,
            saved: 0,
        })
        .executable(FileId {
            device: exe.dev(),
            inode: exe.ino(),
        })
        .foreign()
        .build()
        .unwrap();
    let facts = facts(&caller).await;
    let words: Vec<_> = facts
        .iter()
        .filter_map(|fact| fact.split_once(':'))
        .map(|(word, _)| word)
        .collect();
    assert!(
        words.iter().all(|word| ["uid", "user"].contains(word)),
        "{facts:?}"
    );
    assert_eq!(value(&facts, "uid"), Some("1000"));
}

/// A process of files, whose executable was not seen.
fn made_up(uids: Ids, gids: Ids, groups: &str) -> (tempfile::TempDir, FakeCaller) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(
        folder.path().join("status"),
        format!("Name:\tx\nGroups:\t{groups}\n"),
    )
    .unwrap();
    let caller = FakeCaller::new(folder.path())
        .uids(uids)
        .gids(gids)
        .build()
        .unwrap();
    (folder, caller)
}

#[tokio::test]
async fn nothing_is_stated_of_a_set_id_program() {
    let user = Ids::same(1000);
    let set_uid = (Ids { effective: 0, ..user }, user);
    let dropped = (Ids { saved: 0, ..user }, user);
    let set_gid = (user, Ids { effective: 0, ..user });
    for (uids, gids) in [set_uid, dropped, set_gid] {
        let (_folder, caller) = made_up(uids, gids, "1000");
        let attestation = unix().attest(caller.caller()).await.unwrap();
        assert!(attestation.facts.is_empty());
        assert!(attestation.gaps.iter().all(|gap| gap.hope() == Hope::Final));
    }
}

#[tokio::test]
async fn a_set_id_file_counts_only_for_a_process_with_its_ids() {
    let folder = tempfile::tempdir().unwrap();
    let path = program(folder.path(), "workload");
    let process = Process::run(&path);
    let file = fs::metadata(&path).unwrap();
    let (owner, group) = (Ids::same(file.uid()), Ids::same(file.gid()));
    let (user, users) = (Ids::same(file.uid() + 1), Ids::same(file.gid() + 1));
    for (mode, uids, gids, known) in [
        (0o755, user, users, true),
        (0o4755, owner, users, true),
        (0o4755, user, group, false),
        (0o2755, user, group, true),
        (0o2755, owner, users, false),
        (0o6755, owner, group, true),
        (0o6755, owner, users, false),
        (0o6755, user, group, false),
    ] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let caller = process.caller_as(uids, gids);
        let attestation = unix().attest(caller.caller()).await.unwrap();
        let stated = |word: &str| {
            let mut facts = attestation.facts.iter();
            facts.any(|fact| fact.selector().value().starts_with(word))
        };
        let case = format!("{mode:o} as {uids:?} {gids:?}: {attestation:?}");
        assert!(stated("uid:"), "{case}");
        assert_eq!((stated("path:"), stated("sha256:")), (known, known), "{case}");
        let told = |gap: &&Gap| gap.to_string().contains("set-id file") && gap.hope() == Hope::Final;
        assert_eq!(
            attestation.gaps.iter().filter(told).count(),
            if known { 0 } else { 2 },
            "{case}"
        );
    }
}

#[tokio::test]
async fn a_uid_without_a_number_here_is_refused() {
    let unix = unix();
    let nobody = unix.overflow_uid;
    for uids in [
        Ids::same(nobody),
        Ids {
            real: nobody,
            ..Ids::same(0)
        },
    ] {
        let (_folder, caller) = made_up(uids, Ids::same(0), "");
        assert!(matches!(
            unix.attest(caller.caller()).await,
            Err(AttestError::Refused(_))
        ));
    }
}

#[tokio::test]
async fn supplementary_groups_are_stated_by_number_and_name() {
    let (_folder, caller) = made_up(Ids::same(1000), Ids::same(1000), "0 3999999999 0");
    let facts = facts(&caller).await;
    let groups: Vec<_> = facts
        .iter()
        .filter(|fact| fact.starts_with("supplementary"))
        .collect();
    assert_eq!(
        groups,
        [
            "supplementary_gid:0",
            "supplementary_gid:3999999999",
            "supplementary_group:root"
        ]
    );
}

#[tokio::test]
async fn more_groups_than_the_bound_leave_a_gap() {
    let groups: Vec<String> = (5_000_000..5_001_000).map(|group| group.to_string()).collect();
    let (_folder, caller) = made_up(Ids::same(1000), Ids::same(1000), &groups.join(" "));
    let attestation = unix().attest(caller.caller()).await.unwrap();
    let stated = attestation
        .facts
        .iter()
        .filter(|fact| fact.selector().value().starts_with("supplementary_gid"));
    assert_eq!(stated.count(), 256);
    assert!(
        attestation
            .gaps
            .iter()
            .any(|gap| gap.covers(&"unix:supplementary_gid:5000999".parse().unwrap()))
    );
}

#[tokio::test]
async fn it_keeps_the_promises_of_a_workload_attestor() {
    let folder = tempfile::tempdir().unwrap();
    let path = program(folder.path(), "workload");
    let process = Process::run(&path);
    conformance::workload_attestor(&unix(), &process.caller()).await;
}
