//! The promises of a key manager.

use muster_pki::{KeyAlgorithm, SignatureScheme};

use crate::{KeyManager, KeyManagerError, KeyName};

/// Makes, finds, uses and deletes keys in `keys`, which must be empty.
///
/// # Panics
/// If a promise of [`KeyManager`] is broken.
pub async fn key_manager(keys: &dyn KeyManager) {
    assert!(!keys.name().is_empty(), "a key manager has a name");
    assert_eq!(
        keys.list().await.expect("an empty key manager lists"),
        [],
        "the suite needs an empty key manager"
    );
    let (one, two): (KeyName, KeyName) = (name("suite-one"), name("suite-two"));
    assert!(
        keys.load(&one)
            .await
            .expect("a missing key is no error")
            .is_none(),
        "there is no key yet"
    );

    let made = keys
        .generate(&two, KeyAlgorithm::EcP256)
        .await
        .expect("a P-256 key is made");
    let other = keys
        .generate(&one, KeyAlgorithm::EcP384)
        .await
        .expect("a P-384 key is made");
    assert_ne!(
        made.public_key().spki_der(),
        other.public_key().spki_der(),
        "each key is a new one"
    );
    assert_eq!(
        keys.list().await.expect("keys are listed"),
        [one.clone(), two.clone()],
        "names are sorted"
    );

    let found = keys
        .load(&two)
        .await
        .expect("a key is loaded")
        .expect("the key is there");
    assert_eq!(
        found.public_key().spki_der(),
        made.public_key().spki_der(),
        "the key that was made is found"
    );
    for signer in [&made, &found] {
        let signature = signer
            .sign(SignatureScheme::EcdsaSha256, b"message")
            .expect("a key signs");
        let verified = made
            .public_key()
            .verify(SignatureScheme::EcdsaSha256, b"message", &signature);
        assert!(verified.is_ok(), "the public key verifies what the signer signed");
    }

    match keys.generate(&two, KeyAlgorithm::EcP256).await {
        Err(KeyManagerError::Exists(name)) => assert_eq!(name, two, "the error names the key"),
        other => panic!("a key is never replaced, but: {:?}", other.map(|_| "it was made")),
    }
    let kept = keys
        .load(&two)
        .await
        .expect("a key is loaded")
        .expect("the key is there");
    assert_eq!(
        kept.public_key().spki_der(),
        made.public_key().spki_der(),
        "a key is never replaced"
    );

    keys.delete(&two).await.expect("a key is deleted");
    keys.delete(&two).await.expect("deleting again is no error");
    assert!(
        keys.load(&two)
            .await
            .expect("a missing key is no error")
            .is_none(),
        "a deleted key is gone"
    );
    assert_eq!(
        keys.list().await.expect("keys are listed"),
        std::slice::from_ref(&one),
        "the other key stays"
    );
    made.sign(SignatureScheme::EcdsaSha256, b"message")
        .expect("a signer that is held stays usable");
    keys.delete(&one).await.expect("a key is deleted");
}

fn name(text: &str) -> KeyName {
    text.parse().expect("the suite's names are key names")
}
