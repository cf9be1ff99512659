use std::{fs, os::unix::fs::PermissionsExt as _};

use super::*;

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_key_file_is_made_once_and_opened_after() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("seal.key");
    assert!(matches!(KeyFile::open(&path), Err(KeyFileError::Missing(_))));
    let first = KeyFile::open_or_create(&path).unwrap();
    let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode, 0o400);
    let purpose = Purpose::new("test/a", "");
    let sealed = first.seal(&purpose, b"secret").unwrap();
    for again in [
        KeyFile::open(&path).unwrap(),
        KeyFile::open_or_create(&path).unwrap(),
    ] {
        assert_eq!(again.unseal(&purpose, &sealed).unwrap().as_slice(), b"secret");
    }
    assert_eq!(format!("{first:?}"), format!("KeyFile {{ path: {path:?}, .. }}"));
}

#[test]
fn a_key_file_that_others_may_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("seal.key");
    KeyFile::open_or_create(&path).unwrap();
    for mode in [
        0o440, 0o404, 0o444, 0o644, 0o666, 0o420, 0o402, 0o410, 0o500, 0o4400,
    ] {
        set_mode(&path, mode);
        let refused = KeyFile::open_or_create(&path);
        assert!(
            matches!(refused, Err(KeyFileError::Mode { mode: found, .. }) if found == mode),
            "{mode:o}"
        );
    }
    set_mode(&path, 0o600);
    assert!(KeyFile::open(&path).is_ok());
}

#[test]
fn links_folders_and_other_content_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let real = dir.path().join("seal.key");
    KeyFile::open_or_create(&real).unwrap();
    let link = dir.path().join("link.key");
    std::os::unix::fs::symlink(&real, &link).unwrap();
    assert!(matches!(KeyFile::open(&link), Err(KeyFileError::NotAFile(_))));
    assert!(matches!(
        KeyFile::open(dir.path()),
        Err(KeyFileError::NotAFile(_))
    ));
    let content = fs::read(&real).unwrap();
    for (name, bytes) in [
        ("short", &content[..content.len() - 1]),
        ("long", &[&content[..], b"x"].concat()),
        ("empty", b""),
        ("other", &[b'x'; 48]),
    ] {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        set_mode(&path, 0o400);
        assert!(
            matches!(KeyFile::open(&path), Err(KeyFileError::Malformed(_))),
            "{name}"
        );
    }
}

#[test]
fn a_key_file_of_another_user_is_refused() {
    if !geteuid().is_root() {
        return; // only root can give a file away
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("seal.key");
    KeyFile::open_or_create(&path).unwrap();
    std::os::unix::fs::chown(&path, Some(4242), None).unwrap();
    assert!(matches!(
        KeyFile::open(&path),
        Err(KeyFileError::Owner { uid: 4242, .. })
    ));
}

#[test]
fn of_many_that_make_the_file_at_once_all_have_one_key() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("seal.key");
    let made: Vec<KeyFile> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| KeyFile::open_or_create(&path).unwrap()))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(made.iter().all(|file| file.key.bytes() == made[0].key.bytes()));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}
