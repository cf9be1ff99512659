//! The promises of an upstream authority.

use std::sync::Arc;
use std::time::Duration;

use muster_identity::{Lifetime, TrustDomain, UnixTime};
use muster_pki::jwt::JwtAuthority;
use muster_pki::x509::{Name, NameAttribute, Serial, UpheldAuthority, ca_subject, create_authority_csr};
use muster_pki::{KeyAlgorithm, LocalKey, Signer};

use crate::{AuthorityRequest, UpstreamAuthority, UpstreamBundle};

/// How long an authority of the suite shall live.
const LIFETIME: u32 = 600;
/// How far the clock of an upstream that is a machine of its own may be from ours.
const CLOCKS: Duration = Duration::from_secs(120);

/// Has authorities of `trust_domain` signed by `upstream`, which must be able to, and tries them. `now` is the time at which it signs.
///
/// # Panics
/// If a promise of [`UpstreamAuthority`] is broken.
pub async fn upstream_authority(upstream: &dyn UpstreamAuthority, trust_domain: &TrustDomain, now: UnixTime) {
    assert!(!upstream.name().is_empty(), "an upstream authority has a name");

    let key = key();
    let request = request(&key, trust_domain, now);
    let signed = upstream
        .sign_authority(&request)
        .await
        .expect("an authority is signed");
    let upheld = UpheldAuthority::accept(key.clone(), trust_domain, &signed.chain, &signed.roots, now)
        .expect("what it signs leads to its roots");
    let latest = now
        .saturating_add(Duration::from_secs(u64::from(LIFETIME)))
        .saturating_add(CLOCKS);
    assert!(
        upheld.issuing().ends() <= latest,
        "it lives no longer than was asked for"
    );
    assert!(upheld.issuing().ends() > now, "it lives");

    // The answer may have been lost on the way: the same is signed again, as another certificate.
    let again = upstream
        .sign_authority(&request)
        .await
        .expect("it is signed again");
    assert_ne!(
        again.chain.first(),
        signed.chain.first(),
        "each certificate is a new one"
    );

    let known = upstream
        .changed(&UpstreamBundle::default())
        .await
        .expect("what is known is told to who has seen nothing");
    let root = upheld.root();
    assert!(
        known.x509_authorities.iter().any(|held| held.der() == root.der()),
        "the root that it leads to is known"
    );
    // Dropped half way, it must be whole the next time.
    drop(upstream.changed(&known));

    let nonsense = AuthorityRequest {
        csr: b"no request".to_vec(),
        ..request.clone()
    };
    upstream
        .sign_authority(&nonsense)
        .await
        .expect_err("what is no request is not signed");

    let name = format!("suite-{}", Serial::random().expect("randomness").to_hex());
    let token_key = JwtAuthority::new(name.parse().expect("a key id"), key.public_key().clone())
        .with_expiry(Some(latest));
    for _ in 0..2 {
        let published = upstream.publish_jwt_key(&token_key).await;
        assert_eq!(
            published.is_ok(),
            upstream.takes_jwt_keys(),
            "it says whether it takes keys"
        );
        match published {
            Ok(keys) => assert!(
                keys.iter().any(|held| held.key_id() == token_key.key_id()
                    && held.public_key() == token_key.public_key()
                    && held.expires_at() == token_key.expires_at()),
                "a published key is among those that are known"
            ),
            Err(error) => assert!(error.is_unsupported(), "a key is published or never is: {error}"),
        }
    }
}

fn key() -> Arc<LocalKey> {
    Arc::new(LocalKey::generate(KeyAlgorithm::EcP256).expect("a key"))
}

/// A name like those that servers ask for.
fn subject() -> Name {
    let serial = Serial::random().expect("randomness").to_string();
    ca_subject()
        .with(NameAttribute::SerialNumber, &serial)
        .expect("digits are a serial number")
}

fn request(key: &LocalKey, trust_domain: &TrustDomain, now: UnixTime) -> AuthorityRequest {
    AuthorityRequest {
        trust_domain: trust_domain.clone(),
        csr: create_authority_csr(key, trust_domain, &subject()).expect("a request"),
        lifetime: Lifetime::from_secs(LIFETIME).expect("it is not zero"),
        now,
    }
}
