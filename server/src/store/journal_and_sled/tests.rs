use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};

use super::*;
use crate::store::{Expect, Tree, conformance};

/// Everything small, so that a test of some hundred changes sees checkpoints, rotations and snapshots.
fn small() -> Settings {
    Settings {
        checkpoint_bytes: 2000,
        checkpoint_after: Duration::from_millis(5),
        generation_bytes: 4000,
        reserve_bytes: 64 << 10,
        cache_bytes: 1 << 20,
    }
}

/// Nothing reaches sled until it is told to.
fn idle() -> Settings {
    Settings {
        checkpoint_after: Duration::from_secs(3600),
        checkpoint_bytes: 64 << 20,
        ..small()
    }
}

fn contents(records: &[Record]) -> BTreeMap<String, Vec<u8>> {
    records
        .iter()
        .map(|record| (record.key.to_string(), record.value.clone()))
        .collect()
}

async fn fill(store: &JournalAndSled, from: u32, to: u32) {
    for n in from..to {
        let name = format!("entry-{:03}", n % 50);
        let change = if n % 7 == 6 {
            Change::delete(Tree::Entries, name, Expect::Any)
        } else {
            let length = if n % 11 == 0 { 20_000 } else { 100 };
            Change::put(Tree::Entries, name, vec![n as u8; length], Expect::Any)
        };
        let similar = Change::put(
            Tree::Similar,
            format!("s-{}", n % 20),
            n.to_le_bytes().into(),
            Expect::Any,
        );
        store.commit(vec![vec![change, similar]]).await.unwrap();
    }
}

/// The state that `fill(0, to)` leaves.
async fn filled(dir: &Path, settings: Settings, to: u32, close: bool) -> BTreeMap<String, Vec<u8>> {
    let opened = open(dir, settings).unwrap();
    fill(&opened.store, 0, to).await;
    if close {
        opened.store.close().await;
    }
    drop(opened);
    let reference = tempfile::tempdir().unwrap();
    let memory = open(reference.path(), idle()).unwrap();
    fill(&memory.store, 0, to).await;
    drop(memory);
    contents(&open_when_free(reference.path(), idle()).records)
}

/// The write-behind thread of the store before may still hold the folder for a moment.
fn open_when_free(dir: &Path, settings: Settings) -> Opened {
    loop {
        match open(dir, settings) {
            Err(OpenError::Locked(_)) => std::thread::yield_now(),
            opened => return opened.unwrap(),
        }
    }
}

fn open_error(dir: &Path) -> OpenError {
    loop {
        match open(dir, idle()) {
            Err(OpenError::Locked(_)) => std::thread::yield_now(),
            opened => return opened.map(|opened| opened.notes).unwrap_err(),
        }
    }
}

fn files(dir: &Path, prefix: &str) -> Vec<std::path::PathBuf> {
    let mut found: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    found.retain(|path| path.file_name().unwrap().to_str().unwrap().starts_with(prefix));
    found.sort();
    found
}

#[tokio::test]
async fn it_does_what_every_store_does() {
    let dir = tempfile::tempdir().unwrap();
    conformance::run(&open(dir.path(), small()).unwrap().store).await;
}

#[tokio::test]
async fn everything_is_there_again_with_or_without_a_close() {
    for (settings, close) in [(small(), true), (small(), false), (idle(), true), (idle(), false)] {
        let dir = tempfile::tempdir().unwrap();
        let expected = filled(dir.path(), settings, 300, close).await;
        let opened = open_when_free(dir.path(), settings);
        assert_eq!(contents(&opened.records), expected);
        assert_eq!(opened.store.revision(), Revision(301));
        assert_eq!(opened.notes, Vec::<String>::new());
    }
}

#[tokio::test]
async fn the_store_keeps_its_name_and_a_second_server_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path(), small()).unwrap();
    let id = opened.store.id();
    assert!(matches!(open(dir.path(), small()), Err(OpenError::Locked(_))));
    fill(&opened.store, 0, 100).await;
    drop(opened);
    assert_eq!(open_when_free(dir.path(), small()).store.id(), id);
}

#[tokio::test]
async fn old_generations_and_snapshots_go() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path(), small()).unwrap();
    for round in 0..10 {
        fill(&opened.store, round * 100, round * 100 + 100).await;
        opened.store.close().await;
    }
    assert!(files(dir.path(), "snapshot-").len() <= 2);
    assert!(opened.store.journal.first() > 1);
    assert!(files(&dir.path().join("journal"), "journal-").len() < 10);
}

#[tokio::test]
async fn a_snapshot_that_fails_is_named_until_one_is_written_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    // Where each unfinished snapshot would be written something else stands.
    let in_the_way = |revision: u64| dir.path().join(format!("snapshot-{revision:020}.new"));
    for revision in 0..=400 {
        fs::create_dir(in_the_way(revision)).unwrap();
    }
    let opened = open(dir.path(), small()).unwrap();
    fill(&opened.store, 0, 200).await;
    opened.store.close().await;
    let lagging = opened.store.lagging().unwrap();
    assert!(lagging.starts_with("no snapshot"), "{lagging}");
    assert_eq!(
        opened.store.journal.first(),
        1,
        "the journal is kept whole instead"
    );
    for revision in 0..=400 {
        fs::remove_dir(in_the_way(revision)).unwrap();
    }
    fill(&opened.store, 200, 400).await;
    opened.store.close().await;
    assert_eq!(opened.store.lagging(), None);
    drop(opened);
    let again = open_when_free(dir.path(), small());
    let expected = filled(tempfile::tempdir().unwrap().path(), small(), 400, true).await;
    assert_eq!(contents(&again.records), expected);
}

#[tokio::test]
async fn a_sled_that_is_damaged_or_gone_is_rebuilt_and_kept_for_diagnosis() {
    let damage: [fn(&Path); 4] = [
        |sled| fs::remove_dir_all(sled).unwrap(),
        |sled| {
            let db = sled.join("db");
            let mut bytes = fs::read(&db).unwrap();
            let half = bytes.len() / 2;
            bytes[half..half + 4096].fill(0);
            fs::write(db, bytes).unwrap();
        },
        |sled| {
            let db = fs::OpenOptions::new().write(true).open(sled.join("db")).unwrap();
            db.set_len(db.metadata().unwrap().len() / 3).unwrap();
        },
        |sled| fs::write(sled.join("db"), b"something else").unwrap(),
    ];
    for (number, damage) in damage.into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        let expected = filled(dir.path(), small(), 400, true).await;
        drop(open_when_free(dir.path(), idle()));
        wait_until_free(dir.path());
        damage(&dir.path().join("sled"));
        let opened = open_when_free(dir.path(), small());
        assert_eq!(contents(&opened.records), expected, "damage {number}");
        opened.store.close().await;
        drop(opened);
        let again = open_when_free(dir.path(), small());
        assert_eq!(contents(&again.records), expected);
        assert_eq!(again.notes, Vec::<String>::new());
    }
}

fn wait_until_free(dir: &Path) {
    loop {
        match muster_journal::FolderLock::take(&dir.join("journal")) {
            Ok(_) => return,
            Err(_) => std::thread::yield_now(),
        }
    }
}

#[tokio::test]
async fn a_damaged_journal_is_given_up_only_if_sled_has_everything() {
    for sled_has_everything in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings {
            generation_bytes: 64 << 20,
            ..if sled_has_everything { small() } else { idle() }
        };
        let expected = filled(dir.path(), settings, 200, sled_has_everything).await;
        wait_until_free(dir.path());
        let file = files(&dir.path().join("journal"), "journal-").pop().unwrap();
        let mut bytes = fs::read(&file).unwrap();
        bytes[2000] ^= 1;
        fs::write(&file, &bytes).unwrap();
        if sled_has_everything {
            let opened = open_when_free(dir.path(), small());
            assert_eq!(contents(&opened.records), expected);
            assert_eq!(opened.notes.len(), 1);
            assert_eq!(opened.store.revision(), Revision(201));
            fill(&opened.store, 200, 210).await;
            drop(opened);
            assert_eq!(
                open_when_free(dir.path(), small()).store.revision(),
                Revision(211)
            );
        } else {
            let error = open_error(dir.path()).to_string();
            assert!(error.contains("journal-") && error.contains("restore"), "{error}");
            assert_eq!(fs::read(&file).unwrap(), bytes, "nothing was overwritten");
        }
    }
}

#[tokio::test]
async fn no_single_damage_is_ever_silent() {
    let dir = tempfile::tempdir().unwrap();
    let expected = filled(dir.path(), small(), 150, true).await;
    wait_until_free(dir.path());
    let mut targets = files(&dir.path().join("journal"), "journal-");
    targets.extend(files(dir.path(), "snapshot-"));
    targets.push(dir.path().join("sled/db"));
    targets.push(dir.path().join("sled/conf"));
    targets.push(dir.path().join("journal/witness"));
    let mut seed = 7u64;
    for round in 0..60 {
        seed = seed
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        let copy = tempfile::tempdir().unwrap();
        copy_all(dir.path(), copy.path());
        let target = &targets[round % targets.len()];
        let target = copy.path().join(target.strip_prefix(dir.path()).unwrap());
        let mut bytes = fs::read(&target).unwrap();
        let at = (seed >> 20) as usize % bytes.len().max(1);
        match seed >> 60 & 3 {
            0 => bytes.truncate(at),
            1 => bytes[at..].iter_mut().take(4096).for_each(|byte| *byte = 0),
            2 => fs::remove_file(&target).unwrap(),
            _ => bytes[at] ^= 1 << (seed & 7),
        }
        if target.exists() {
            fs::write(&target, bytes).unwrap();
        }
        match open(copy.path(), idle()) {
            Ok(opened) => assert_eq!(contents(&opened.records), expected, "round {round}: {target:?}"),
            Err(error) => assert!(
                matches!(error, OpenError::Damaged { .. } | OpenError::Journal(_)),
                "{error}"
            ),
        }
    }
}

fn copy_all(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&target).unwrap();
            copy_all(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Started by the test below as a process of its own: writes until it is killed, and says what was acknowledged.
#[tokio::test]
#[ignore = "a child of `what_was_acknowledged_survives_kill_9`"]
async fn child_that_writes_until_it_is_killed() {
    let mut dir = String::new();
    std::io::stdin().read_line(&mut dir).unwrap();
    let opened = open(Path::new(dir.trim()), small()).unwrap();
    let mut out = std::io::stdout();
    loop {
        let next = opened.store.revision().0 as u32;
        fill(&opened.store, next - 1, next).await;
        writeln!(out, "acked {next}").unwrap();
        out.flush().unwrap();
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = 0u32;
    for round in 0..12u32 {
        let name = "store::journal_and_sled::tests::child_that_writes_until_it_is_killed";
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--ignored", "--nocapture"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        writeln!(child.stdin.take().unwrap(), "{}", dir.path().display()).unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let enough = acknowledged + 5 + round * 13 % 60;
        while acknowledged < enough {
            let line = lines.next().expect("the child ended by itself").unwrap();
            if let Some((_, number)) = line.split_once("acked ") {
                acknowledged = number.parse().unwrap();
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let opened = open_when_free(dir.path(), idle());
        let revision = opened.store.revision().0 as u32;
        assert!(
            revision > acknowledged,
            "acknowledged {acknowledged}, found {revision}"
        );
        let reference = tempfile::tempdir().unwrap();
        let expected = filled(reference.path(), idle(), revision - 1, false).await;
        assert_eq!(contents(&opened.records), expected);
        assert_eq!(opened.notes, Vec::<String>::new());
        drop(opened);
        wait_until_free(dir.path());
    }
}

/// A file system of its own; gone with the value.
struct SmallDisk {
    dir: tempfile::TempDir,
}

impl SmallDisk {
    /// `None` without the right to mount.
    fn new(options: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("tmpfs"), dir.path(), Some("tmpfs"), flags, Some(options)).ok()?;
        Some(Self { dir })
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(self.dir.path(), nix::mount::MntFlags::MNT_DETACH);
    }
}

#[tokio::test]
async fn host_a_full_disk_loses_nothing_and_a_start_on_it_works() {
    let Some(disk) = SmallDisk::new("size=40m") else {
        println!("left out: mounting needs root");
        return;
    };
    let dir = disk.dir.path().join("store");
    let settings = Settings {
        reserve_bytes: 8 << 20,
        ..small()
    };
    let opened = open(&dir, settings).unwrap();
    fill(&opened.store, 0, 50).await;
    let ballast = disk.dir.path().join("ballast");
    let mut file = fs::File::create(&ballast).unwrap();
    while file.write_all(&[1; 64 << 10]).is_ok() {}
    let mut acknowledged = 0;
    let refused = loop {
        let change = Change::put(
            Tree::Nodes,
            format!("n{acknowledged}"),
            vec![3; 50_000],
            Expect::Absent,
        );
        match opened.store.commit(vec![vec![change]]).await {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, StoreError::Full), "{refused}");
    let revision = opened.store.revision();
    drop(opened);
    wait_until_free(&dir);
    let opened = open_when_free(&dir, settings);
    assert_eq!(
        opened.store.revision(),
        revision,
        "it opens while the disk is full"
    );
    assert_eq!(
        opened
            .records
            .iter()
            .filter(|record| record.key.tree == Tree::Nodes)
            .count(),
        acknowledged
    );
    fs::remove_file(&ballast).unwrap();
    let change = Change::put(Tree::Nodes, "after", vec![3; 50_000], Expect::Absent);
    // The part behind may still be waiting for its next try.
    while let Err(error) = opened.store.commit(vec![vec![change.clone()]]).await {
        assert!(matches!(error, StoreError::Full), "{error}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_sled_that_is_still_locked_is_waited_for_and_not_called_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let expected = filled(dir.path(), small(), 400, true).await;
    drop(open_when_free(dir.path(), idle()));
    wait_until_free(dir.path());
    let db = dir.path().join("sled/db");
    // As a child has it that was forked and is not another program yet.
    let held = loop {
        let file = fs::File::open(&db).unwrap();
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(held) => break held,
            Err(_) => std::thread::yield_now(),
        }
    };
    let path = dir.path().to_owned();
    let opening = std::thread::spawn(move || open_when_free(&path, small()));
    let descriptors = || {
        let all = fs::read_dir("/proc/self/fd").unwrap().filter_map(Result::ok);
        all.filter(|one| fs::read_link(one.path()).is_ok_and(|file| file == db))
            .count()
    };
    // Somebody else has it open beside us: the lock is being waited for.
    while descriptors() < 2 && !opening.is_finished() {
        std::thread::yield_now();
    }
    drop(held);
    let opened = opening.join().unwrap();
    assert_eq!(opened.notes, Vec::<String>::new());
    assert_eq!(contents(&opened.records), expected);
}
