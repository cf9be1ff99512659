use std::io::{Seek, SeekFrom, Write};

use super::*;

const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn hasher(max_size: u64) -> Hasher {
    Hasher::start(HashSettings {
        max_size,
        ..HashSettings::default()
    })
    .unwrap()
}

fn file(content: &[u8]) -> (File, OwnedFd, Version) {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    let fd: OwnedFd = file.try_clone().unwrap().into();
    let version = file_state(fd.as_fd()).unwrap().version;
    (file, fd, version)
}

#[tokio::test]
async fn a_file_is_hashed() {
    let (_file, fd, version) = file(b"");
    assert_eq!(hasher(10).hash(1, fd, version).await.unwrap().as_ref(), EMPTY);
    let (_file, fd, version) = file(b"abc");
    let digest = hasher(3).hash(1, fd, version).await.unwrap();
    assert_eq!(
        digest.as_ref(),
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
}

#[tokio::test]
async fn a_file_over_the_limit_has_no_hash() {
    let (_file, fd, version) = file(b"abcd");
    let refused = hasher(3).hash(1, fd, version).await.unwrap_err();
    assert_eq!(refused.hope, Hope::Final);
}

#[tokio::test]
async fn a_file_that_changed_meanwhile_has_no_hash() {
    let (mut file, fd, version) = file(b"abcd");
    file.seek(SeekFrom::Start(0)).unwrap();
    file.write_all(b"efghi").unwrap();
    let refused = hasher(100).hash(1, fd, version).await.unwrap_err();
    assert_eq!(refused.hope, Hope::MayHeal);
}

#[tokio::test]
async fn all_who_want_the_same_file_wait_for_one_hash() {
    let (_file, fd, version) = file(&vec![7; 4 << 20]);
    let hasher = hasher(100 << 20);
    let first = hasher.board(1, fd.try_clone().unwrap(), version).unwrap_err();
    let boarded = hasher.board(1, fd, version);
    let mut second = match boarded {
        // It was quick, and the file is too young to be remembered.
        Ok(outcome) => panic!("a young file is not remembered: {outcome:?}"),
        Err(flight) => flight,
    };
    let shared = first.same_channel(&second) || first.borrow().is_some();
    assert!(shared, "while one hash is under way there is no second one");
    assert!(
        second
            .wait_for(Option::is_some)
            .await
            .unwrap()
            .clone()
            .unwrap()
            .is_ok()
    );
}

#[tokio::test]
async fn a_hash_that_is_remembered_is_not_computed_again() {
    let (_file, fd, version) = file(b"abc");
    let hasher = hasher(100);
    hasher.shared.hashes().cache.remember(
        version,
        "remembered".into(),
        since_the_epoch() + Duration::from_secs(60),
    );
    assert_eq!(hasher.hash(1, fd, version).await.unwrap().as_ref(), "remembered");
}
