//! The promises of a bundle publisher.

use muster_pki::bundle::Bundle;
use muster_pki::jwt::JwtAuthority;
use muster_pki::{KeyAlgorithm, LocalKey, Signer as _};

use crate::{BundleForm, BundlePublisher};

/// Publishes bundles by `publisher` and holds what readers find, which `found` tells, against them.
///
/// # Panics
/// If a promise of [`BundlePublisher`] is broken.
pub async fn bundle_publisher<F: Future<Output = String>>(
    publisher: &dyn BundlePublisher,
    found: impl Fn() -> F,
    form: BundleForm,
) {
    assert!(!publisher.name().is_empty(), "a publisher has a name");
    let domain = "example.org".parse().expect("a trust domain");
    let mut bundle = Bundle::new(domain);
    for sequence in 1..=3 {
        let key = LocalKey::generate(KeyAlgorithm::EcP256).expect("a key");
        let key_id = format!("key-{sequence}").parse().expect("a key id");
        let authority = JwtAuthority::new(key_id, key.public_key().clone());
        bundle
            .put_jwt_authority(authority)
            .expect("a key of its own name");
        bundle.set_sequence(Some(sequence));
        // Twice: what is there already may be published again.
        for _ in 0..2 {
            publisher.publish(&bundle).await.expect("the bundle is published");
            assert_eq!(
                found().await,
                form.write(&bundle),
                "readers find the newest, whole"
            );
        }
    }
}
