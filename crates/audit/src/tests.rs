use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use muster_identity::UnixTime;
use muster_journal::{Journal, Options};
use muster_pki::{KeyAlgorithm, LocalKey, PublicKey, Signer};

use crate::{
    Action, Actor, Audit, AuditError, Checkpoint, Event, Object, OpenError, Outcome, Receipt, Settings,
    Standing, Trust, VerifyError, frame, verify, walk::Walk,
};

const ORIGIN: &str = "example.org/audit/test";

fn key() -> Arc<LocalKey> {
    Arc::new(LocalKey::generate(KeyAlgorithm::EcP256).unwrap())
}

fn settings(key: &Arc<LocalKey>, checkpoint_records: u64) -> Settings {
    let clock = AtomicU64::new(1_800_000_000);
    let now = move || UnixTime::from_secs(clock.fetch_add(1, Ordering::Relaxed).try_into().unwrap());
    let mut settings = Settings::new(ORIGIN, Arc::clone(key) as Arc<dyn Signer>, Arc::new(now));
    settings.checkpoint_records = checkpoint_records;
    settings
}

fn trust(keys: &[&LocalKey]) -> Trust {
    let keys: Vec<PublicKey> = keys.iter().map(|key| key.public_key().clone()).collect();
    Trust {
        origin: ORIGIN.into(),
        keys,
        known: None,
    }
}

fn event(n: u64) -> Event {
    Event::new(Actor::local(0, 7), Action::EntryCreate, Outcome::Done)
        .object(Object::entry(format_args!("entry-{n}")))
        .fact("spiffe_id", format_args!("spiffe://example.org/w{n}"))
}

/// A log of `records` records with a checkpoint each `checkpoint_records`, as frames.
fn written(dir: &Path, key: &Arc<LocalKey>, records: u64, checkpoint_records: u64) -> Vec<Vec<u8>> {
    let audit = Audit::open(dir, settings(key, checkpoint_records)).unwrap();
    for n in 0..records {
        assert_eq!(audit.record_blocking(event(n)), Ok(Receipt { index: n }));
    }
    drop(audit);
    frames(dir)
}

fn frames(dir: &Path) -> Vec<Vec<u8>> {
    let journal = Journal::open(dir, Options::default()).unwrap().journal;
    journal
        .read(journal.first())
        .unwrap()
        .map(|record| record.unwrap().payload)
        .collect()
}

/// Puts a log in the place of another, with the journal's own sums in order: what somebody does who knows the format.
fn forge(dir: &Path, frames: &[Vec<u8>]) {
    for file in std::fs::read_dir(dir).unwrap() {
        std::fs::remove_file(file.unwrap().path()).unwrap();
    }
    let journal = Journal::open(dir, Options::default()).unwrap().journal;
    for frame in frames {
        journal.append(frame.clone()).wait().unwrap();
    }
}

#[test]
fn events_that_come_together_are_numbered_and_all_there() {
    let dir = tempfile::tempdir().unwrap();
    let key = key();
    let audit = Audit::open(dir.path(), settings(&key, 1000)).unwrap();
    let mut indexes: Vec<u64> = std::thread::scope(|scope| {
        let write = |from: u64| {
            let audit = audit.clone();
            move || {
                (from..from + 50)
                    .map(|n| audit.record_blocking(event(n)).unwrap().index)
                    .collect::<Vec<_>>()
            }
        };
        let threads: Vec<_> = (0..10).map(|thread| scope.spawn(write(thread * 50))).collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    indexes.sort_unstable();
    assert_eq!(indexes, (0..500).collect::<Vec<u64>>());
    assert_eq!(audit.standing(), Standing::Writing);
    audit.close();
    assert_eq!(audit.record_blocking(event(0)), Err(AuditError::Closed));
    let verified = verify(dir.path(), &trust(&[&key])).unwrap();
    assert_eq!((verified.records, verified.signed), (500, 500));
}

#[tokio::test]
async fn a_full_disk_refuses_and_leaves_no_gap_when_there_is_space_again() {
    let key = key();
    let audit = Audit::in_memory(settings(&key, 2)).unwrap();
    assert_eq!(audit.record(event(0)).await, Ok(Receipt { index: 0 }));
    audit.set_memory_full(true);
    for _ in 0..3 {
        let refused = audit.record(event(1)).await.unwrap_err();
        assert!(refused == AuditError::Full && refused.may_retry());
    }
    assert_eq!(audit.standing(), Standing::Failing("the disk is full".into()));
    audit.set_memory_full(false);
    assert_eq!(audit.record(event(2)).await, Ok(Receipt { index: 1 }));
    assert_eq!(audit.standing(), Standing::Writing);
    let lines = audit.recorded();
    assert_eq!(lines.len(), 2);
    assert!(lines[1].contains(&crate::Hash::leaf(lines[0].as_bytes()).to_hex()));
}

#[tokio::test]
async fn the_events_of_a_batch_follow_each_other_and_may_need_several_frames() {
    let key = key();
    let audit = Audit::in_memory(settings(&key, 1_000_000)).unwrap();
    let long = "x".repeat(256);
    let big = |n: u64| {
        let facts = ["a", "b", "c", "d", "e", "f", "g", "h"];
        facts.into_iter().fold(event(n), |event, name| {
            event.fact_list(name, std::iter::repeat_n(&long, 32))
        })
    };
    // About 70 KB each, 14 MB in all: more than the journal would take in one record with the next batch.
    let receipt = audit.record_all((0..200).map(big).collect()).await.unwrap();
    assert_eq!(receipt, Receipt { index: 0 });
    assert_eq!(
        audit.record_all((200..203).map(event).collect()).await,
        Ok(Receipt { index: 200 })
    );
    assert_eq!(audit.record_all(Vec::new()).await, Ok(Receipt { index: 203 }));
    assert_eq!(audit.recorded().len(), 203);
    let trusted = trust(&[&key]);
    let mut walk = Walk::new(Some(&trusted));
    let frames = audit.frames_in_memory();
    assert!(frames.len() > 3 && frames.iter().all(|frame| frame.len() < 5 << 20));
    frames.iter().try_for_each(|frame| walk.step(frame)).unwrap();
    assert_eq!(walk.verified().unwrap().records, 203);
}

#[tokio::test]
async fn more_events_than_may_wait_are_refused_at_once() {
    let key = key();
    let audit = Audit::in_memory(settings(&key, 1000)).unwrap();
    assert_eq!(
        audit.record_all(vec![event(0); 65_537]).await,
        Err(AuditError::Busy)
    );
    assert_eq!(audit.record(event(0)).await, Ok(Receipt { index: 0 }));
}

#[test]
fn a_log_goes_on_where_it_ended_and_verifies_with_both_keys() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (key(), key());
    written(dir.path(), &first, 5, 1000);
    let audit = Audit::open(dir.path(), settings(&second, 1000)).unwrap();
    assert_eq!(audit.record_blocking(event(5)), Ok(Receipt { index: 5 }));
    drop(audit);
    assert_eq!(verify(dir.path(), &trust(&[&first, &second])).unwrap().records, 6);
    assert!(matches!(
        verify(dir.path(), &trust(&[&second])),
        Err(VerifyError::Checkpoint {
            index: 4,
            source: crate::CheckpointError::Unsigned
        })
    ));
}

#[test]
fn the_lines_of_a_log_are_json_with_their_links() {
    let key = key();
    let audit = Audit::in_memory(settings(&key, 1000)).unwrap();
    for n in 0..3 {
        audit.record_blocking(event(n)).unwrap();
    }
    let lines = audit.recorded();
    let records: Vec<serde_json::Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(records[2]["index"], 2);
    assert_eq!(
        records[2]["prev"],
        crate::Hash::leaf(lines[1].as_bytes()).to_hex()
    );
    assert_eq!(records[2]["facts"]["spiffe_id"], "spiffe://example.org/w2");
    assert!(!records[0]["time"].as_str().unwrap().is_empty());
}

#[test]
fn hostile_values_stay_one_short_line() {
    let key = key();
    let audit = Audit::in_memory(settings(&key, 1000)).unwrap();
    for hostile in [
        "\u{1b}[2J\u{1b}]0;x\u{7}",
        "a\r\nb",
        "\u{2028}\u{2029}\u{202e}",
        "\"},{\"x\":\"",
        "\0",
    ] {
        let long = hostile.repeat(1 << 18);
        audit
            .record_blocking(
                Event::new(Actor::unknown(&long), Action::CallRefuse, Outcome::refused(&long))
                    .object(Object::method(&long))
                    .reference(&long)
                    .fact("value", &long)
                    .fact_list("values", std::iter::repeat_n(&long, 1000)),
            )
            .unwrap();
    }
    for line in audit.recorded() {
        assert!(line.len() < 40_000, "{}", line.len());
        assert!(
            line.chars()
                .all(|c| !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}' | '\u{202e}'))
        );
        serde_json::from_str::<serde_json::Value>(&line).unwrap();
    }
}

#[test]
fn a_forged_line_of_the_log_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let key = key();
    let good = written(dir.path(), &key, 40, 10);
    let trusted = trust(&[&key]);
    let places: Vec<usize> = (0..good.len())
        .filter(|at| frame::records(&good[*at]).is_some())
        .collect();
    assert_eq!(places.len(), 40);
    let named = |frames: &[Vec<u8>]| {
        let mut walk = Walk::new(Some(&trusted));
        match frames
            .iter()
            .try_for_each(|frame| walk.step(frame))
            .and_then(|()| walk.verified())
        {
            Err(VerifyError::Record { index, .. }) => Some(index),
            Err(other) => panic!("{other:?}"),
            Ok(_) => None,
        }
    };
    assert_eq!(named(&good), None);
    let replaced = |place: usize, from: &str, to: &str| {
        let mut frames = good.clone();
        let text = String::from_utf8(frames[place].clone()).unwrap();
        assert!(text.contains(from));
        frames[place] = text.replacen(from, to, 1).into_bytes();
        frames
    };
    // A small generator with a fixed seed: the same thousand forgeries each time.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    for round in 0..1000 {
        let n = random(40);
        let at = places[n];
        let index = u64::try_from(n).unwrap();
        let (frames, expected) = match round % 5 {
            0 => (replaced(at, "example.org/w", "example.com/w"), index),
            1 => (replaced(at, "\"uid\":0", "\"uid\":1"), index),
            2 => {
                let mut frames = good.clone();
                frames.remove(at);
                (frames, index)
            }
            3 if n + 1 < 40 => {
                let mut frames = good.clone();
                frames.swap(at, places[n + 1]);
                (frames, index)
            }
            _ => {
                // Added: a copy that bears the next number, so that only the links show it.
                let mut frames = good.clone();
                let text = String::from_utf8(frames[at].clone()).unwrap();
                let copy = text.replacen(&format!("\"index\":{n}"), &format!("\"index\":{}", n + 1), 1);
                frames.insert(at + 1, copy.into_bytes());
                (frames, index + 1)
            }
        };
        let found = named(&frames).unwrap_or_else(|| panic!("round {round}: nothing found"));
        // A copy that was added is told from the original by neither's link alone: the one before it may be named.
        let close = round % 5 > 2 && found + 1 == expected;
        assert!(
            found == expected || close,
            "round {round}: {found} instead of {expected}"
        );
    }
}

#[test]
fn a_log_rewritten_with_all_its_links_does_not_match_what_was_signed() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (real, thief) = (key(), key());
    let good = written(dir.path(), &real, 25, 10);
    // The same log with one other record, whole in itself, with the true log's checkpoints put back in.
    let audit = Audit::open(other.path(), settings(&thief, 10)).unwrap();
    for n in 0..25 {
        audit
            .record_blocking(event(if n == 13 { 99 } else { n }))
            .unwrap();
    }
    drop(audit);
    let forged: Vec<Vec<u8>> = frames(other.path())
        .into_iter()
        .zip(good)
        .map(|(forged, good)| {
            if frame::records(&forged).is_some() {
                return forged;
            }
            // The head is the forger's own, the signed note the real one.
            let head_len = 33;
            [&forged[..head_len], &good[head_len..]].concat()
        })
        .collect();
    forge(dir.path(), &forged);
    assert!(matches!(
        verify(dir.path(), &trust(&[&real])),
        Err(VerifyError::Rewritten { from: 10, to: 20 })
    ));
}

#[test]
fn a_tail_that_was_cut_is_missed_by_whoever_knows_a_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let key = key();
    let good = written(dir.path(), &key, 30, 10);
    let beside = std::fs::read_to_string(dir.path().join("checkpoint")).unwrap();
    let known = Checkpoint::verify(&beside, ORIGIN, &[key.public_key().clone()]).unwrap();
    assert_eq!(known.size, 30);

    forge(dir.path(), &good[..12]);
    assert_eq!(verify(dir.path(), &trust(&[&key])).unwrap().records, 11);
    let mut remembers = trust(&[&key]);
    remembers.known = Some(known);
    assert!(matches!(
        verify(dir.path(), &remembers),
        Err(VerifyError::Cut {
            records: 11,
            known: 30
        })
    ));
    std::fs::write(dir.path().join("checkpoint"), &beside).unwrap();
    assert!(matches!(
        verify(dir.path(), &trust(&[&key])),
        Err(VerifyError::Cut {
            records: 11,
            known: 30
        })
    ));
    std::fs::write(dir.path().join("checkpoint"), beside.replace("30", "11")).unwrap();
    assert!(matches!(
        verify(dir.path(), &trust(&[&key])),
        Err(VerifyError::Beside { .. })
    ));
}

#[test]
fn a_log_whose_chain_is_broken_is_not_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    let key = key();
    let mut frames = written(dir.path(), &key, 5, 1000);
    frames.remove(2);
    forge(dir.path(), &frames);
    assert!(matches!(
        Audit::open(dir.path(), settings(&key, 1000)),
        Err(OpenError::Content(VerifyError::Record { index: 2, .. }))
    ));
}

#[test]
fn damaged_bytes_are_named_by_the_first_record_that_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let key = key();
    written(dir.path(), &key, 5, 1000);
    let file = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|file| file.unwrap().path())
        .find(|path| std::fs::read(path).is_ok_and(|bytes| find(&bytes, b"entry-3").is_some()))
        .unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    let at = find(&bytes, b"entry-3").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    assert!(matches!(
        verify(dir.path(), &trust(&[&key])),
        Err(VerifyError::Damaged { index: 3, .. })
    ));
    assert!(matches!(
        Audit::open(dir.path(), settings(&key, 10)),
        Err(OpenError::Journal(_))
    ));
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

#[test]
fn a_log_in_use_can_be_verified() {
    let dir = tempfile::tempdir().unwrap();
    let key = key();
    let audit = Audit::open(dir.path(), settings(&key, 3)).unwrap();
    for n in 0..4 {
        audit.record_blocking(event(n)).unwrap();
    }
    let verified = verify(dir.path(), &trust(&[&key])).unwrap();
    assert_eq!((verified.records, verified.signed), (4, 3));
}

#[test]
fn checkpoints_come_by_number_and_the_last_one_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let key = key();
    let frames = written(dir.path(), &key, 25, 10);
    let kinds: String = frames
        .iter()
        .map(|f| if frame::records(f).is_some() { 'r' } else { 'c' })
        .collect();
    assert_eq!(kinds, format!("{0}c{0}c{1}c", "r".repeat(10), "r".repeat(5)));
}

/// The files of a log's records, oldest first.
fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    let is_journal = |path: &std::path::PathBuf| {
        path.file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with("journal-")
    };
    let mut files: Vec<_> = entries.filter(is_journal).collect();
    files.sort();
    files
}

/// Settings for a log that begins a file at each second checkpoint or so.
fn short_files(key: &Arc<LocalKey>) -> Settings {
    settings(key, 5).with_file_bytes(4000)
}

/// A log of 80 records in several files, opened anew halfway.
fn in_files(dir: &Path, key: &Arc<LocalKey>) {
    for half in [0..40, 40..80] {
        let audit = Audit::open(dir, short_files(key)).unwrap();
        for n in half {
            assert_eq!(audit.record_blocking(event(n)), Ok(Receipt { index: n }));
        }
        drop(audit);
    }
}

/// One more record, and the end.
fn go_on(dir: &Path, key: &Arc<LocalKey>, index: u64) {
    let audit = Audit::open(dir, short_files(key)).unwrap();
    assert_eq!(audit.record_blocking(event(index)), Ok(Receipt { index }));
}

/// Takes all files away but the newest `left`.
fn put_away(dir: &Path, left: usize) -> tempfile::TempDir {
    let away = tempfile::tempdir().unwrap();
    let mut files = files(dir);
    files.truncate(files.len() - left);
    for file in files {
        std::fs::rename(&file, away.path().join(file.file_name().unwrap())).unwrap();
    }
    away
}

fn put_back(dir: &Path, away: &Path) {
    for file in files(away) {
        std::fs::rename(&file, dir.join(file.file_name().unwrap())).unwrap();
    }
}

/// A log in memory's frames, with the journal beginning a file before each of these.
fn forge_in_files(dir: &Path, frames: &[Vec<u8>], begins: &[usize]) {
    forge(dir, &[]);
    let journal = Journal::open(dir, Options::default()).unwrap().journal;
    for (at, frame) in frames.iter().enumerate() {
        if begins.contains(&at) {
            journal.rotate().wait().unwrap();
        }
        journal.append(frame.clone()).wait().unwrap();
    }
}

#[test]
fn a_start_reads_the_newest_file_and_what_is_wrong_with_others_is_found_by_whoever_looks() {
    let dir = tempfile::tempdir().unwrap();
    let key = key();
    in_files(dir.path(), &key);
    let files = files(dir.path());
    assert!(files.len() > 3, "{files:?}");
    let verified = verify(dir.path(), &trust(&[&key])).unwrap();
    assert_eq!((verified.first, verified.records, verified.signed), (0, 80, 80));

    let mut bytes = std::fs::read(&files[1]).unwrap();
    let at = find(&bytes, b"example.org/w").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&files[1], bytes).unwrap();
    go_on(dir.path(), &key, 80);
    let found = verify(dir.path(), &trust(&[&key])).unwrap_err();
    assert!(
        matches!(found, VerifyError::Damaged { index: 1..40, .. }),
        "{found:?}"
    );
}

#[test]
fn old_files_may_be_put_away_and_what_is_left_is_verified_against_what_was_signed() {
    let dir = tempfile::tempdir().unwrap();
    let key = key();
    in_files(dir.path(), &key);
    let whole = verify(dir.path(), &trust(&[&key])).unwrap();
    let count = files(dir.path()).len();
    let away = put_away(dir.path(), count - 2);
    let left = verify(dir.path(), &trust(&[&key])).unwrap();
    assert!(left.first > 5 && left.first < 80, "{left:?}");
    assert_eq!((left.records, left.root, left.signed), (80, whole.root, 80));
    assert_eq!(crate::verify_chain(dir.path()).unwrap().first, left.first);
    // It goes on as if they were there.
    go_on(dir.path(), &key, 80);
    assert_eq!(verify(dir.path(), &trust(&[&key])).unwrap().signed, 81);

    // What others remember of what is left, or of where it begins, is compared; of what is no longer there it can't be, and that is said.
    let other_of_size = |size| {
        let known = Checkpoint {
            origin: ORIGIN.into(),
            size,
            root: crate::Hash::empty(),
        };
        Trust {
            known: Some(known),
            ..trust(&[&key])
        }
    };
    for size in [5, left.first, left.first + 1, 80] {
        let found = verify(dir.path(), &other_of_size(size)).unwrap_err();
        match size {
            5 => assert!(matches!(found, VerifyError::Before { known: 5, .. }), "{found:?}"),
            _ => assert!(
                matches!(found, VerifyError::Rewritten { .. }),
                "{size}: {found:?}"
            ),
        }
    }
    put_back(dir.path(), away.path());
    let found = verify(dir.path(), &other_of_size(5)).unwrap_err();
    assert!(matches!(found, VerifyError::Rewritten { .. }), "{found:?}");
    assert_eq!(verify(dir.path(), &trust(&[&key])).unwrap().records, 81);
    // From the middle nothing may be taken.
    std::fs::remove_file(&files(dir.path())[1]).unwrap();
    let found = verify(dir.path(), &trust(&[&key])).unwrap_err();
    assert!(matches!(found, VerifyError::Damaged { .. }), "{found:?}");
}

#[test]
fn an_edge_that_does_not_fit_is_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let key = key();
    in_files(dir.path(), &key);
    let good = frames(dir.path());
    let at = good.iter().position(|frame| frame::is_edge(frame)).unwrap();
    let trusted = trust(&[&key]);
    let walked = |frames: &[Vec<u8>]| {
        let mut walk = Walk::new(Some(&trusted));
        frames
            .iter()
            .try_for_each(|frame| walk.step(frame))
            .and_then(|()| walk.verified())
    };
    walked(&good).unwrap();
    assert!(walked(&good[at..]).unwrap().first > 0);
    for byte in 1..good[at].len() {
        let mut frames = good.clone();
        frames[at][byte] ^= 1;
        walked(&frames).unwrap_err();
        walked(&frames[at..]).unwrap_err();
        if !(9..=40).contains(&byte) {
            // What it says of the tree is signed by itself; the link, by the record that follows.
            walked(&frames[at..=at]).unwrap_err();
        }
    }
    let alone = walked(&good[at..=at]).unwrap();
    assert_eq!((alone.records, alone.signed), (alone.first, alone.first));
}

#[test]
fn a_start_does_not_go_on_from_an_edge_that_was_not_signed() {
    let (dir, invented) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (real, thief) = (key(), key());
    in_files(dir.path(), &real);
    in_files(invented.path(), &thief);
    let edges = |dir: &Path| {
        let mut frames = frames(dir);
        frames.retain(|frame| frame::is_edge(frame));
        frames
    };
    let (ours, theirs) = (edges(dir.path()).remove(0), edges(invented.path()).remove(0));
    // An invented history of as many records, with our signature over the real one.
    let mut forged = ours.clone();
    forged[41] ^= 1;
    let begun_by = |edge: Vec<u8>| {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open_from(dir.path(), Options::default(), 30)
            .unwrap()
            .journal;
        journal.append(edge).wait().unwrap();
        drop(journal);
        Audit::open(dir.path(), settings(&real, 5)).map(drop)
    };
    begun_by(ours.clone()).unwrap();
    let refused = begun_by(forged).unwrap_err();
    assert!(
        matches!(refused, OpenError::Content(VerifyError::Record { .. })),
        "{refused:?}"
    );
    let mut changed = ours;
    *changed.last_mut().unwrap() = b'!';
    assert!(matches!(
        begun_by(changed),
        Err(OpenError::Content(VerifyError::Checkpoint { .. }))
    ));
    // A log whose key was replaced goes on; who signed what lies before is for whoever verifies it.
    begun_by(theirs).unwrap();
    // So does one whose name was: a node that joined another trust domain.
    let signer = Arc::clone(&real) as Arc<dyn Signer>;
    let named = Settings::new("other.example/audit", signer, Arc::new(|| UnixTime::EPOCH));
    let audit = Audit::open(dir.path(), named).unwrap();
    assert_eq!(audit.record_blocking(event(80)), Ok(Receipt { index: 80 }));
}

#[test]
fn a_file_that_was_begun_and_got_no_edge_gets_one_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let key = key();
    in_files(dir.path(), &key);
    let killed = || {
        let journal = Journal::open(dir.path(), Options::default()).unwrap().journal;
        journal.rotate().wait().unwrap();
    };
    killed();
    // Nobody has started it since, and it is all that is left: it is not taken for a log that begins.
    let away = put_away(dir.path(), 1);
    let found = crate::verify_chain(dir.path()).unwrap_err();
    assert!(matches!(found, VerifyError::Beginning), "{found:?}");
    let refused = Audit::open(dir.path(), short_files(&key)).map(drop).unwrap_err();
    assert!(
        matches!(refused, OpenError::Content(VerifyError::Beginning)),
        "{refused:?}"
    );
    put_back(dir.path(), away.path());
    drop(Audit::open(dir.path(), short_files(&key)).unwrap());
    let _away = put_away(dir.path(), 1);
    let left = verify(dir.path(), &trust(&[&key])).unwrap();
    assert_eq!((left.first, left.records, left.signed), (80, 80, 80));
    go_on(dir.path(), &key, 80);
    assert_eq!(verify(dir.path(), &trust(&[&key])).unwrap().records, 81);
}

#[test]
fn a_file_that_goes_on_without_an_edge_is_ended_at_the_next_checkpoint() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let key = key();
    let frames = written(other.path(), &key, 20, 5);
    // As it is when the disk is full for the first frame of a file and not for the next one.
    forge_in_files(dir.path(), &frames, &[12]);
    assert_eq!(files(dir.path()).len(), 2);
    drop(Audit::open(dir.path(), settings(&key, 5)).unwrap());
    assert_eq!(files(dir.path()).len(), 3);
    let away = put_away(dir.path(), 2);
    let found = verify(dir.path(), &trust(&[&key])).unwrap_err();
    assert!(matches!(found, VerifyError::Beginning), "{found:?}");
    put_back(dir.path(), away.path());
    let _away = put_away(dir.path(), 1);
    assert_eq!(verify(dir.path(), &trust(&[&key])).unwrap().signed, 20);
    go_on(dir.path(), &key, 20);
}

#[test]
fn a_log_can_be_verified_while_it_begins_files() {
    let dir = tempfile::tempdir().unwrap();
    let key = key();
    let audit = Audit::open(dir.path(), short_files(&key)).unwrap();
    let trusted = trust(&[&key]);
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| (0..400).for_each(|n| assert!(audit.record_blocking(event(n)).is_ok())));
        let mut seen = 0;
        while !writing.is_finished() {
            let verified = verify(dir.path(), &trusted).unwrap();
            assert!(
                verified.records >= seen && verified.signed + 6 > verified.records,
                "{verified:?}"
            );
            seen = verified.records;
        }
    });
    assert_eq!(verify(dir.path(), &trusted).unwrap().records, 400);
    assert!(files(dir.path()).len() > 20);
}

proptest::proptest! {
    #[test]
    fn no_frame_makes_the_walk_panic(kind in 0u8..5, body in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200), before in 0usize..3) {
        let key = key();
        let audit = Audit::in_memory(settings(&key, 2)).unwrap();
        for n in 0..before as u64 {
            audit.record_blocking(event(n)).unwrap();
        }
        let mut walk = Walk::new(None);
        for frame in audit.frames_in_memory() {
            walk.step(&frame).unwrap();
        }
        // Whether it is believed is not asked here.
        let _ = walk.step(&[&[kind], &body[..]].concat());
        let _ = walk.step(&[]);
        let _ = walk.finish();
    }
}

#[test]
fn keys_that_checkpoints_cannot_name_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let wrong = Arc::new(LocalKey::generate(KeyAlgorithm::EcP384).unwrap());
    assert!(matches!(
        Audit::open(dir.path(), settings(&wrong, 10)),
        Err(OpenError::Key)
    ));
    let named = Settings::new("a b", key() as Arc<dyn Signer>, Arc::new(|| UnixTime::EPOCH));
    assert!(matches!(
        Audit::open(dir.path(), named),
        Err(OpenError::Origin(_))
    ));
}
