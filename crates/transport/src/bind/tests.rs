use std::{
    fs,
    os::unix::{
        fs::{FileTypeExt, PermissionsExt, symlink},
        net::UnixStream,
    },
};

use super::*;

fn directory() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("door").tempdir().unwrap()
}

#[test]
fn a_socket_has_its_mode_and_listens_and_goes_away_with_its_door() {
    let dir = directory();
    let path = dir.path().join("api.sock");
    let (bound, _listener) = BoundSocket::bind(&path, 0o777).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o777);
    UnixStream::connect(&path).unwrap();
    assert!(bound.is_in_place());
    assert_eq!(
        fs::read_dir(dir.path()).unwrap().count(),
        1,
        "no temporary name stays"
    );
    drop(bound);
    assert!(!path.exists());
}

#[test]
fn a_directory_that_others_can_write_is_refused() {
    let dir = directory();
    for mode in [0o777, 0o1777, 0o770, 0o702] {
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
        let refused = BoundSocket::bind(&dir.path().join("api.sock"), 0o777);
        assert!(
            matches!(refused, Err(BindError::Insecure { .. })),
            "mode {mode:o}"
        );
    }
}

#[test]
fn a_directory_of_another_user_is_refused() {
    if !Uid::effective().is_root() {
        return; // Only root can make one.
    }
    let dir = directory();
    let theirs = dir.path().join("theirs");
    fs::create_dir(&theirs).unwrap();
    std::os::unix::fs::chown(&theirs, Some(1000), Some(1000)).unwrap();
    let refused = BoundSocket::bind(&theirs.join("api.sock"), 0o777);
    assert!(matches!(refused, Err(BindError::Insecure { owner: 1000, .. })));
    fs::create_dir(theirs.join("ours")).unwrap();
    let refused = BoundSocket::bind(&theirs.join("ours/api.sock"), 0o777);
    assert!(
        matches!(refused, Err(BindError::Insecure { owner: 1000, .. })),
        "also on the way"
    );
}

#[test]
fn a_symbolic_link_anywhere_in_the_path_is_refused() {
    let dir = directory();
    fs::create_dir(dir.path().join("real")).unwrap();
    symlink(dir.path().join("real"), dir.path().join("link")).unwrap();
    let refused = BoundSocket::bind(&dir.path().join("link/api.sock"), 0o777);
    assert!(matches!(refused, Err(BindError::NotADirectory(_))));
    symlink("elsewhere", dir.path().join("real/api.sock")).unwrap();
    let refused = BoundSocket::bind(&dir.path().join("real/api.sock"), 0o777);
    assert!(matches!(refused, Err(BindError::Occupied(_))));
}

#[test]
fn whatever_else_has_the_name_stays_as_it_is() {
    let dir = directory();
    let path = dir.path().join("api.sock");
    fs::write(&path, "a file").unwrap();
    assert!(matches!(
        BoundSocket::bind(&path, 0o777),
        Err(BindError::Occupied(_))
    ));
    fs::remove_file(&path).unwrap();
    nix::unistd::mkfifo(&path, Mode::S_IRUSR).unwrap();
    assert!(matches!(
        BoundSocket::bind(&path, 0o777),
        Err(BindError::Occupied(_))
    ));
    assert!(fs::metadata(&path).unwrap().file_type().is_fifo());
}

#[test]
fn a_socket_of_another_user_is_refused() {
    if !Uid::effective().is_root() {
        return; // Only root can make one.
    }
    let dir = directory();
    let path = dir.path().join("api.sock");
    drop(UnixListener::bind(&path).unwrap());
    std::os::unix::fs::lchown(&path, Some(1000), Some(1000)).unwrap();
    assert!(matches!(
        BoundSocket::bind(&path, 0o777),
        Err(BindError::Occupied(_))
    ));
}

#[test]
fn a_live_socket_is_in_use_and_a_dead_one_is_replaced() {
    let dir = directory();
    let path = dir.path().join("api.sock");
    let live = UnixListener::bind(&path).unwrap();
    assert!(matches!(
        BoundSocket::bind(&path, 0o777),
        Err(BindError::InUse(_))
    ));
    drop(live);
    let (bound, _listener) = BoundSocket::bind(&path, 0o777).unwrap();
    assert!(bound.is_in_place());
}

#[test]
fn a_door_does_not_remove_the_socket_of_its_successor() {
    let dir = directory();
    let path = dir.path().join("api.sock");
    let (first, first_listener) = BoundSocket::bind(&path, 0o777).unwrap();
    fs::remove_file(&path).unwrap();
    assert!(!first.is_in_place());
    let (_second, _listener) = BoundSocket::bind(&path, 0o777).unwrap();
    drop((first, first_listener));
    UnixStream::connect(&path).unwrap();
}

#[test]
fn relative_roundabout_nameless_and_overlong_paths_are_refused() {
    for path in ["api.sock", "/", "/tmp/../tmp/api.sock", "\0abstract"] {
        assert!(
            matches!(BoundSocket::bind(Path::new(path), 0o777), Err(BindError::Path(_))),
            "{path:?}"
        );
    }
    let long = Path::new("/tmp").join("x".repeat(120));
    assert!(matches!(
        BoundSocket::bind(&long, 0o777),
        Err(BindError::TooLong(_))
    ));
}
