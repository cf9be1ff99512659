use std::{fs, sync::LazyLock};

use muster_journal::{Journal, Options};
use muster_server::store::journal_and_sled::{Opened, Settings, open};
use tempfile::TempDir;

use super::files::folder;
use crate::Target;

/// A store whose journal ends with a record of any content, its checksum right: opened, or refused with nothing overwritten.
/// The first byte says whether the record follows a sound store's or is the first of all.
pub(super) const STORE: Target = Target {
    name: "store",
    run: |input| {
        let Some((first, record)) = input.split_first() else {
            return;
        };
        let dir = folder();
        let journal = dir.path().join("journal");
        fs::create_dir(&journal).expect("a folder in memory");
        if first % 2 == 0 {
            for (name, bytes) in &SOUND.journal {
                fs::write(journal.join(name), bytes).expect("a file in memory");
            }
        }
        let opened = Journal::open(&journal, Options::default()).expect("it is sound");
        // Empty or over its limit, a record is refused here already.
        drop(opened.journal.append(record.to_vec()).wait());
        drop(opened);
        match open(dir.path(), SETTINGS) {
            Ok(opened) => drop(opened),
            Err(error) => {
                assert!(!error.to_string().is_empty());
                assert!(journal.is_dir(), "what could be mended is gone");
            }
        }
    },
    seeds: || {
        let record = |first| move |record: &Vec<u8>| [&[first][..], record].concat();
        let records = SOUND.records.iter();
        records
            .clone()
            .map(record(0))
            .chain(records.map(record(1)))
            .collect()
    },
    words: &[
        "\u{8}\u{1}",
        "\u{8}\u{2}",
        "\u{12}",
        "\u{1a}",
        "\u{ff}\u{ff}\u{ff}\u{ff}\u{f}",
    ],
};

const SETTINGS: Settings = Settings {
    checkpoint_bytes: 64 << 20,
    checkpoint_after: std::time::Duration::from_secs(3600),
    generation_bytes: 32 << 20,
    reserve_bytes: 0,
    cache_bytes: 1 << 20,
};

/// A store with its first frame and one change, as it lies on a disk.
struct Sound {
    journal: Vec<(String, Vec<u8>)>,
    records: Vec<Vec<u8>>,
}

static SOUND: LazyLock<Sound> = LazyLock::new(|| {
    let dir: TempDir = folder();
    let Opened { store, .. } = open(dir.path(), SETTINGS).expect("a new store");
    drop(store);
    let journal = dir.path().join("journal");
    let files = fs::read_dir(&journal).expect("a folder").filter_map(Result::ok);
    let files = files.filter_map(|file| {
        let name = file.file_name().into_string().ok()?;
        Some((name, fs::read(file.path()).ok()?))
    });
    let files = files.collect();
    let scan = muster_journal::scan(&journal, 1).expect("it is sound");
    let records = scan.records.filter_map(Result::ok);
    Sound {
        journal: files,
        records: records.map(|record| record.payload).collect(),
    }
});
