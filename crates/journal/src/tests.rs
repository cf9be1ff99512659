use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::medium::faults::{self, Call};
use super::*;

fn small() -> Options {
    Options {
        extend_by: 4096,
        ..Options::small()
    }
}

fn open(dir: &Path) -> Journal {
    Journal::open(dir, small()).unwrap().journal
}

fn fill(journal: &Journal, count: u64) {
    let pending: Vec<_> = (0..count)
        .map(|n| journal.append(format!("record {n}").into_bytes()))
        .collect();
    for answer in pending {
        answer.wait().unwrap();
    }
}

fn texts(journal: &Journal) -> Vec<String> {
    let records = journal.read(journal.first()).unwrap();
    records
        .map(|record| String::from_utf8(record.unwrap().payload).unwrap())
        .collect()
}

fn only_file(dir: &Path) -> PathBuf {
    generation::list(dir).unwrap().pop().unwrap().1
}

/// The folder as a power cut leaves it: the same files under another name, without the lock.
fn copy(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    copy
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

/// Where the last frame ends.
fn used(dir: &Path) -> usize {
    generation::scan_all(dir).unwrap().generations.last().unwrap().end as usize
}

#[test]
fn what_was_acknowledged_is_read_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    assert_eq!((journal.first(), journal.last()), (1, 0));
    assert_eq!(journal.append(b"one".to_vec()).wait().unwrap(), 1);
    assert_eq!(journal.append(b"two".to_vec()).wait().unwrap(), 2);
    drop(journal);
    let opened = Journal::open(dir.path(), small()).unwrap();
    assert_eq!(opened.cut, None);
    assert_eq!(texts(&opened.journal), ["one", "two"]);
    assert_eq!(opened.journal.append(b"three".to_vec()).wait().unwrap(), 3);
}

#[test]
fn a_second_opener_is_refused_until_the_first_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    assert!(matches!(
        Journal::open(dir.path(), small()),
        Err(OpenError::Locked(_))
    ));
    drop(journal);
    open(dir.path());
}

#[test]
fn empty_and_oversized_records_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    assert!(matches!(
        journal.append(Vec::new()).wait(),
        Err(AppendError::Size(0))
    ));
    assert!(matches!(
        journal.append(vec![0; (1 << 20) + 1]).wait(),
        Err(AppendError::Size(_))
    ));
    assert_eq!(journal.append(vec![0; 1 << 20]).wait().unwrap(), 1);
}

#[test]
fn a_torn_tail_is_cut_and_its_frames_never_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    fill(&journal, 3);
    let before = copy(dir.path());
    let kept = used(before.path());
    // One batch of three equal frames, of which the first is torn by the power cut.
    let queued: Vec<_> = ["AAAAAAAA", "BBBBBBBB", "CCCCCCCC"]
        .map(|text| journal.append(text.into()))
        .into();
    drop(
        queued
            .into_iter()
            .map(|pending| pending.wait().unwrap())
            .collect::<Vec<_>>(),
    );
    let torn = before.path();
    let salt = generation::scan_all(torn).unwrap().generations[0].salt;
    change(&only_file(torn), |bytes| {
        let mut batch = Vec::new();
        for (position, text) in (4..).zip(["AAAAAAAA", "BBBBBBBB", "CCCCCCCC"]) {
            frame::put(&mut batch, salt, position, 3, text.as_bytes());
        }
        batch[frame::HEADER] ^= 1;
        bytes[kept..kept + batch.len()].copy_from_slice(&batch);
    });
    let opened = Journal::open(torn, small()).unwrap();
    assert_eq!(opened.cut.map(|cut| cut.position), Some(4));
    assert_eq!(opened.journal.append(b"DDDDDDDD".to_vec()).wait().unwrap(), 4);
    drop(opened.journal);
    let again = Journal::open(torn, small()).unwrap();
    assert_eq!(again.cut, None);
    assert_eq!(texts(&again.journal)[3..], ["DDDDDDDD"]);
}

#[test]
fn damage_in_the_middle_is_reported_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    fill(&open(dir.path()), 10);
    let file = only_file(dir.path());
    change(&file, |bytes| bytes[200] ^= 4);
    let damaged = fs::read(&file).unwrap();
    let Err(OpenError::Damaged(damage)) = Journal::open(dir.path(), small()) else {
        panic!("opened")
    };
    assert_eq!(damage.file, file);
    assert!(damage.position > 1 && damage.position < 10);
    assert_eq!(fs::read(&file).unwrap(), damaged);
}

#[test]
fn damage_to_the_last_acknowledged_record_is_no_torn_tail() {
    let dir = tempfile::tempdir().unwrap();
    fill(&open(dir.path()), 10);
    let end = used(dir.path());
    change(&only_file(dir.path()), |bytes| bytes[end - 8] ^= 1);
    assert!(matches!(
        Journal::open(dir.path(), small()),
        Err(OpenError::Damaged(_))
    ));
}

#[test]
fn a_missing_or_shortened_file_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    fill(&journal, 5);
    journal.rotate().wait().unwrap();
    fill(&journal, 5);
    drop(journal);
    for (first, _) in generation::list(dir.path()).unwrap() {
        let lost = copy(dir.path());
        fs::remove_file(generation::path(lost.path(), first)).unwrap();
        let opened = Journal::open(lost.path(), small());
        // A missing oldest generation looks like one that was dropped; who needs it asks for `first`.
        assert!(
            first == 1 || matches!(opened, Err(OpenError::Damaged(_))),
            "without {first}"
        );
    }
    let shortened = copy(dir.path());
    let end = used(shortened.path());
    change(&only_file(shortened.path()), |bytes| bytes.truncate(end - 30));
    assert!(matches!(
        Journal::open(shortened.path(), small()),
        Err(OpenError::Damaged(_))
    ));
    let gone = copy(dir.path());
    generation::list(gone.path())
        .unwrap()
        .iter()
        .for_each(|(_, path)| fs::remove_file(path).unwrap());
    assert!(matches!(
        Journal::open(gone.path(), small()),
        Err(OpenError::Damaged(_))
    ));
}

#[test]
fn generations_are_read_as_one_and_dropped_whole() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    fill(&journal, 4);
    assert_eq!(journal.rotate().wait().unwrap(), 4);
    assert_eq!(journal.rotate().wait().unwrap(), 4);
    fill(&journal, 4);
    assert_eq!(texts(&journal).len(), 8);
    assert_eq!(journal.drop_before(4).unwrap(), 0);
    assert_eq!(journal.drop_before(5).unwrap(), 1);
    assert_eq!((journal.first(), journal.last()), (5, 8));
    assert!(matches!(
        journal.read(4),
        Err(ReadError::Gone { wanted: 4, first: 5 })
    ));
    drop(journal);
    let journal = open(dir.path());
    assert_eq!((journal.first(), journal.last()), (5, 8));
    assert_eq!(texts(&journal).len(), 4);
}

#[test]
fn of_a_journal_that_is_kept_for_good_the_newest_generation_is_checked_and_the_others_when_they_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let newest_only = || Options {
        newest_only: true,
        ..small()
    };
    let journal = open(dir.path());
    for _ in 0..3 {
        fill(&journal, 4);
        journal.rotate().wait().unwrap();
    }
    fill(&journal, 1);
    assert_eq!(journal.generations(), [1, 5, 9, 13]);
    drop(journal);

    let newest = only_file(dir.path());
    let second = newest.with_file_name(format!("journal-{:020}", 5));
    change(&second, |bytes| bytes[90] ^= 1);
    assert!(matches!(
        Journal::open(dir.path(), small()),
        Err(OpenError::Damaged(Damage { position: 5, .. }))
    ));
    let journal = Journal::open(dir.path(), newest_only()).unwrap().journal;
    assert_eq!(journal.generations(), [1, 5, 9, 13]);
    fill(&journal, 1);
    let sound = journal.read(9).unwrap().map(Result::unwrap);
    assert_eq!(
        sound.map(|record| record.position).collect::<Vec<_>>(),
        [9, 10, 11, 12, 13, 14]
    );
    let mut all = journal.read(1).unwrap();
    assert_eq!(all.by_ref().take_while(Result::is_ok).count(), 4);
    assert!(
        all.next().is_none(),
        "nothing behind an unsound record is handed out"
    );
    drop(journal);

    // What was acknowledged last is missed as ever.
    let away = newest.with_file_name("away");
    fs::rename(&newest, &away).unwrap();
    assert!(matches!(
        Journal::open(dir.path(), newest_only()),
        Err(OpenError::Damaged(_))
    ));
    fs::rename(&away, &newest).unwrap();
    // The oldest may go.
    fs::remove_file(&second).unwrap();
    fs::remove_file(newest.with_file_name(format!("journal-{:020}", 1))).unwrap();
    let journal = Journal::open(dir.path(), newest_only()).unwrap().journal;
    assert_eq!((journal.first(), journal.last()), (9, 14));
}

#[test]
fn a_full_disk_fails_appends_until_there_is_space() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    let faults = faults::current();
    faults.fail(Call::Extend, 28);
    let big = || journal.append(vec![7; 8000]).wait();
    assert!(matches!(big(), Err(AppendError::Full)));
    assert_eq!(
        journal
            .append(b"fits into what is taken".to_vec())
            .wait()
            .unwrap(),
        1
    );
    faults.heal();
    assert_eq!(big().unwrap(), 2);
    assert_eq!(journal.poisoned(), None);
}

#[test]
fn a_generation_that_can_t_be_begun_leaves_the_one_that_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    fill(&journal, 2);
    let in_the_way = generation::path(dir.path(), 3).with_extension("new");
    fs::create_dir(&in_the_way).unwrap();
    let refused = journal.rotate().wait().unwrap_err();
    assert!(
        matches!(refused, AppendError::Unbegun(_)) && refused.may_retry(),
        "{refused}"
    );
    fill(&journal, 1);
    assert_eq!((journal.poisoned(), journal.generations()), (None, vec![1]));
    fs::remove_dir(&in_the_way).unwrap();
    assert_eq!(journal.rotate().wait().unwrap(), 3);
    assert_eq!(journal.generations(), [1, 4]);
}

#[test]
fn after_a_failed_sync_nothing_more_is_written() {
    for call in [Call::Sync, Call::Write] {
        let dir = tempfile::tempdir().unwrap();
        let journal = open(dir.path());
        fill(&journal, 2);
        let faults = faults::current();
        faults.fail(call, 5);
        assert!(matches!(
            journal.append(b"lost?".to_vec()).wait(),
            Err(AppendError::Poisoned(_))
        ));
        faults.heal();
        assert!(matches!(
            journal.append(b"more".to_vec()).wait(),
            Err(AppendError::Poisoned(_))
        ));
        assert!(matches!(journal.rotate().wait(), Err(AppendError::Poisoned(_))));
        assert!(journal.poisoned().is_some());
        assert_eq!(journal.last(), 2);
        drop(journal);
        let reopened = open(dir.path());
        assert!(texts(&reopened).len() <= 3 && !texts(&reopened).contains(&"more".to_owned()));
    }
}

#[test]
fn too_much_waiting_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        max_queued_bytes: 100,
        ..small()
    };
    let journal = Journal::open(dir.path(), options).unwrap().journal;
    let answers: Vec<_> = (0..200)
        .map(|_| journal.append(vec![1; 60]))
        .map(Pending::wait)
        .collect();
    assert!(
        answers
            .iter()
            .all(|answer| matches!(answer, Ok(_) | Err(AppendError::Busy)))
    );
    assert!(
        journal.append(vec![1; 200]).wait().is_ok(),
        "one record always fits"
    );
}

#[test]
fn a_scan_changes_nothing_and_needs_no_lock() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    fill(&journal, 5);
    let found = scan(dir.path(), 3).unwrap();
    assert_eq!(found.end, End::Clean);
    assert_eq!(
        found
            .records
            .map(|record| record.unwrap().position)
            .collect::<Vec<_>>(),
        [3, 4, 5]
    );
    let damaged = copy(dir.path());
    change(&only_file(damaged.path()), |bytes| bytes[FIRST_FRAME_OF_TWO] ^= 1);
    let found = scan(damaged.path(), 1).unwrap();
    assert!(matches!(found.end, End::Damaged(_)));
    assert_eq!(found.records.count(), 1);
}

/// A byte of the second frame of a journal that [`fill`] began.
const FIRST_FRAME_OF_TWO: usize = 64 + 32 + 24 + 2;

#[test]
fn something_else_under_our_name_is_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("journal-00000000000000000001"), vec![b'x'; 300]).unwrap();
    assert!(matches!(
        Journal::open(dir.path(), small()),
        Err(OpenError::Foreign(_))
    ));
}

#[test]
fn a_snapshot_is_read_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let records = vec![b"a".to_vec(), vec![9; 5000]];
    snapshot::write(&path, 7, records.clone()).unwrap();
    assert_eq!(
        snapshot::read(&path).unwrap(),
        snapshot::Snapshot { position: 7, records }
    );
    let whole = fs::read(&path).unwrap();
    for at in (0..whole.len()).step_by(61) {
        change(&path, |bytes| bytes[at] ^= 0x10);
        assert!(snapshot::read(&path).is_err(), "bit in byte {at}");
        fs::write(&path, &whole[..at]).unwrap();
        assert!(snapshot::read(&path).is_err(), "cut at {at}");
        fs::write(&path, &whole).unwrap();
    }
}

#[test]
fn a_reserve_is_taken_and_given_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("reserve");
    let reserve = Reserve::new(&path, 100_000);
    reserve.ensure().unwrap();
    assert_eq!(fs::metadata(&path).unwrap().len(), 100_000);
    reserve.release();
    reserve.release();
    assert!(!path.exists());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// One bit anywhere in what was written: noticed, or without effect (padding, the file's spare space).
    #[test]
    fn no_flipped_bit_is_ever_silent(at in 0usize..1200, bit in 0u8..8, rotated in any::<bool>()) {
        let dir = tempfile::tempdir().unwrap();
        let journal = open(dir.path());
        fill(&journal, 12);
        if rotated { journal.rotate().wait().unwrap(); }
        fill(&journal, 3);
        let expected = texts(&journal);
        drop(journal);
        let files = generation::list(dir.path()).unwrap();
        let file = &files[at % files.len()].1;
        let at = at % fs::metadata(file).unwrap().len() as usize;
        change(file, |bytes| bytes[at] ^= 1 << bit);
        match Journal::open(dir.path(), small()) {
            Ok(opened) => prop_assert_eq!(texts(&opened.journal), expected),
            Err(error) => prop_assert!(matches!(error, OpenError::Damaged(_)), "{error}"),
        }
    }

    #[test]
    fn no_bytes_make_the_scan_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600), headed in any::<bool>()) {
        let dir = tempfile::tempdir().unwrap();
        let mut file = if headed { generation::head(3, 1).to_vec() } else { Vec::new() };
        file.extend(bytes);
        fs::write(generation::path(dir.path(), 1), file).unwrap();
        let _ = scan(dir.path(), 1);
    }
}
