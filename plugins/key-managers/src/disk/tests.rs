use std::os::unix::fs::PermissionsExt as _;

use muster_pki::SignatureScheme;
use muster_plugin_api::conformance;
use muster_seal::KeyFile;

use super::*;

fn name(text: &str) -> KeyName {
    text.parse().unwrap()
}

fn open(dir: &Path, trust_domain: &str) -> DiskKeys {
    let seal = Arc::new(KeyFile::open_or_create(dir.join("seal.key")).unwrap());
    DiskKeys::open(dir.join("keys"), seal, trust_domain.parse().unwrap()).unwrap()
}

#[tokio::test]
async fn the_disk_keeps_the_promises_of_a_key_manager() {
    let dir = tempfile::tempdir().unwrap();
    conformance::key_manager(&open(dir.path(), "example.org")).await;
}

#[tokio::test]
async fn keys_of_every_kind_are_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let keys = open(dir.path(), "example.org");
    for algorithm in KeyAlgorithm::ALL {
        let name = name(&format!("k-{algorithm}"));
        let made = keys.generate(&name, algorithm).await.unwrap();
        let found = open(dir.path(), "example.org")
            .load(&name)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(found.public_key(), made.public_key(), "{algorithm}");
        let scheme = SignatureScheme::for_certificates(found.public_key().kind());
        let signature = found.sign(scheme, b"message").unwrap();
        assert!(
            made.public_key().verify(scheme, b"message", &signature).is_ok(),
            "{algorithm}"
        );
    }
    assert_eq!(keys.list().await.unwrap().len(), KeyAlgorithm::ALL.len());
    let left_over = keys.folder().join(".k.key.new-0123456789abcdef");
    fs::write(&left_over, b"").unwrap();
    assert_eq!(
        open(dir.path(), "example.org").list().await.unwrap().len(),
        KeyAlgorithm::ALL.len()
    );
    assert!(!left_over.exists());
}

#[tokio::test]
async fn no_key_is_on_the_disk_in_the_clear() {
    let dir = tempfile::tempdir().unwrap();
    let keys = open(dir.path(), "example.org");
    keys.generate(&name("k"), KeyAlgorithm::EcP256).await.unwrap();
    let file = keys.folder().join("k.key");
    let bytes = fs::read(&file).unwrap();
    // The key's algorithm identifier stands in every PKCS#8 file.
    let p256 = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    assert!(!bytes.windows(p256.len()).any(|window| window == p256));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
}

#[tokio::test]
async fn a_key_under_another_name_or_of_another_trust_domain_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let keys = open(dir.path(), "example.org");
    keys.generate(&name("a"), KeyAlgorithm::EcP256).await.unwrap();
    fs::copy(keys.folder().join("a.key"), keys.folder().join("b.key")).unwrap();
    assert!(matches!(
        keys.load(&name("b")).await,
        Err(KeyManagerError::Damaged { .. })
    ));
    let other = open(dir.path(), "example.net");
    assert!(matches!(
        other.load(&name("a")).await,
        Err(KeyManagerError::Damaged { .. })
    ));
}

#[tokio::test]
async fn a_damaged_key_is_said_to_be_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let keys = open(dir.path(), "example.org");
    keys.generate(&name("a"), KeyAlgorithm::EcP256).await.unwrap();
    let file = keys.folder().join("a.key");
    let mut bytes = fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&file, &bytes).unwrap();
    let again = open(dir.path(), "example.org");
    assert!(
        matches!(again.load(&name("a")).await, Err(KeyManagerError::Damaged { key, .. }) if key == name("a"))
    );
    assert!(matches!(
        again.generate(&name("a"), KeyAlgorithm::EcP256).await,
        Err(KeyManagerError::Exists(_))
    ));
    assert_eq!(fs::read(&file).unwrap(), bytes);
    // Whoever has the key in memory goes on.
    assert!(keys.load(&name("a")).await.unwrap().is_some());
}

#[tokio::test]
async fn a_folder_that_others_may_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let keys = open(dir.path(), "example.org");
    let seal = Arc::new(KeyFile::open(dir.path().join("seal.key")).unwrap());
    for mode in [0o750, 0o701, 0o777, 0o1700] {
        fs::set_permissions(keys.folder(), fs::Permissions::from_mode(mode)).unwrap();
        let seal: Arc<dyn Seal> = Arc::clone(&seal) as Arc<dyn Seal>;
        let refused = DiskKeys::open(keys.folder(), seal, "example.org".parse().unwrap());
        assert!(matches!(refused, Err(OpenError::Foreign { .. })), "{mode:o}");
    }
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(keys.folder(), &link).unwrap();
    let refused = DiskKeys::open(link, seal, "example.org".parse().unwrap());
    assert!(matches!(refused, Err(OpenError::NotAFolder(_))));
}
