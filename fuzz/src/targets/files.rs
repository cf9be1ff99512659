use std::{fs, path::Path, sync::LazyLock};

use muster_journal::{End, Journal, Options, scan};
use tempfile::TempDir;

use crate::Target;

const WORDS: &[&str] = &[
    "[ca]\n",
    "[workload]\n",
    " = ",
    "\"1h 30m\"",
    "99999999999999999999",
    "-1",
    "'''",
    "\n[",
    "0x",
    "\"\"",
    "1979-05-27",
];

/// A configuration is read, or refused with words that name a key; nothing else happens.
pub(super) const AGENT_CONFIGURATION: Target = Target {
    name: "agent-configuration",
    run: |input| {
        if let Err(error) = muster_agent::Config::parse("agent.toml", &String::from_utf8_lossy(input)) {
            assert!(!error.to_string().is_empty());
        }
    },
    seeds: || vec![muster_agent::config::EXAMPLE.as_bytes().to_vec()],
    words: WORDS,
};

pub(super) const SERVER_CONFIGURATION: Target = Target {
    name: "server-configuration",
    run: |input| {
        if let Err(error) = muster_server::Config::parse("server.toml", &String::from_utf8_lossy(input)) {
            assert!(!error.to_string().is_empty());
        }
    },
    seeds: || vec![muster_server::config::EXAMPLE.as_bytes().to_vec()],
    words: WORDS,
};

/// A generation of a journal as any disk may give it back: read up to what is sound, or called damaged; what is read is what
/// was written.
pub(super) const JOURNAL: Target = Target {
    name: "journal",
    run: |input| {
        let folder = folder();
        fs::write(folder.path().join(&SOUND.name), input).expect("a file in memory");
        if let Ok(scan) = scan(folder.path(), 1) {
            let damaged = matches!(scan.end, End::Damaged(_));
            for (next, record) in (1..).zip(scan.records) {
                let Ok(record) = record else {
                    assert!(damaged, "a record is lost and nobody said so");
                    break;
                };
                assert_eq!(record.position, next, "positions have no gaps");
            }
        }
        // Opening cuts a torn end off and goes on, or says why not.
        if let Ok(opened) = Journal::open(folder.path(), Options::small()) {
            drop(opened.journal.append(b"one more".to_vec()).wait());
        }
    },
    seeds: || vec![SOUND.bytes.clone()],
    words: &["record", "\0\0\0\0\0\0\0\0"],
};

/// A journal of a few records, as it lies on a disk.
struct Sound {
    name: String,
    bytes: Vec<u8>,
}

static SOUND: LazyLock<Sound> = LazyLock::new(|| {
    let folder = folder();
    let opened = Journal::open(folder.path(), Options::small()).expect("a new journal");
    for record in [&b"record one"[..], b"", b"record three, which is longer"] {
        drop(opened.journal.append(record.to_vec()).wait());
    }
    drop(opened);
    let file = fs::read_dir(folder.path())
        .expect("a folder")
        .filter_map(Result::ok)
        .map(|entry| entry.path());
    let file = file
        .filter(|path| path.metadata().is_ok_and(|data| data.len() > 0))
        .max_by_key(|path| path.metadata().map_or(0, |data| data.len()));
    let file = file.expect("a generation");
    // Space that is taken ahead is zeros; a few of them say as much as all.
    let mut bytes = fs::read(&file).expect("a file");
    let end = bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1);
    bytes.truncate(end + 64);
    Sound {
        name: file.file_name().expect("a file").to_string_lossy().into_owned(),
        bytes,
    }
});

/// In memory where there is such a folder: a disk's promises are tried elsewhere.
pub(super) fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    };
    folder.expect("a folder")
}
