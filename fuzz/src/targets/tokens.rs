use std::sync::{Arc, LazyLock};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use muster_identity::UnixTime;
use muster_pki::{
    KeyAlgorithm, LocalKey, Signer as _,
    bundle::{Bundle, BundleSet},
    jwk,
    jws::{Algorithm, Compact, sign_compact},
    jwt::{JwtAuthority, JwtSvid, verify_jwt_svid},
};
use serde_json::{Value, json};

use super::certificates::NOW;
use crate::Target;

struct World {
    key: LocalKey,
    token: String,
    bundles: BundleSet,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let key = LocalKey::generate(KeyAlgorithm::EcP256).expect("randomness");
    let claims =
        json!({ "sub": "spiffe://example.org/w", "aud": ["a"], "exp": NOW + 300, "iat": NOW }).to_string();
    let token =
        sign_compact(&key, Algorithm::Es256, Some("k"), Some("JWT"), claims.as_bytes()).expect("a token");
    let mut bundle = Bundle::new("example.org".parse().expect("a trust domain"));
    let authority = JwtAuthority::new("k".parse().expect("a key id"), key.public_key().clone());
    bundle.put_jwt_authority(authority).expect("the only one");
    World {
        key,
        token,
        bundles: BundleSet::new(Arc::new(bundle)),
    }
});

/// Nothing that was changed in a signed token may be believed. The input is a token, or claims to be signed.
pub(super) const TOKENS: Target = Target {
    name: "tokens",
    run: |input| {
        let now = UnixTime::from_secs(NOW);
        if let Some(claims) = input.strip_prefix(b"{") {
            // As if an authority had signed it: the claims are read to their end.
            let claims = [b"{", claims].concat();
            let signed = sign_compact(&WORLD.key, Algorithm::Es256, Some("k"), None, &claims)
                .expect("any bytes are signed");
            if let Ok(svid) = verify_jwt_svid(&signed, &WORLD.bundles, "a", now) {
                assert!(
                    svid.audience().iter().any(|name| name == "a")
                        && svid.expires_at() >= UnixTime::from_secs(NOW - 60)
                );
            }
            return;
        }
        let Ok(text) = std::str::from_utf8(input) else {
            return;
        };
        let _ = JwtSvid::parse_unverified(text.to_owned());
        let _ = Compact::parse(text);
        if verify_jwt_svid(text, &WORLD.bundles, "a", now).is_ok() {
            let signed = |token: &str| token.rsplit_once('.').map(|(content, _)| content.to_owned());
            assert_eq!(
                signed(text),
                signed(&WORLD.token),
                "a token that nobody signed is believed"
            );
        }
    },
    seeds: || {
        let mut parts = WORLD.token.split('.').map(str::to_owned);
        let claims = parts.nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
        [Some(WORLD.token.clone().into_bytes()), claims]
            .into_iter()
            .flatten()
            .collect()
    },
    words: &[
        ".",
        "..",
        "=",
        "\"aud\":",
        "\"exp\":",
        "1e400",
        "-1",
        "null",
        "[",
        "{",
        "\\u0000",
        "\"sub\":\"spiffe://",
    ],
};

pub(super) const KEYS: Target = Target {
    name: "keys",
    run: |input| {
        let Ok(Value::Object(key)) = serde_json::from_slice(input) else {
            return;
        };
        let _ = jwk::algorithm(&key);
        if let Ok(public) = jwk::public_key(&key) {
            let again = jwk::public_key(&jwk::from_public_key(&public)).expect("what we write we read");
            assert_eq!(again.spki_der(), public.spki_der());
        }
    },
    seeds: || {
        let kinds = [KeyAlgorithm::EcP256, KeyAlgorithm::EcP384];
        let keys = kinds.into_iter().filter_map(|kind| LocalKey::generate(kind).ok());
        keys.map(|key| {
            Value::Object(jwk::from_public_key(key.public_key()))
                .to_string()
                .into_bytes()
        })
        .collect()
    },
    words: &[
        "\"kty\":\"EC\"",
        "\"RSA\"",
        "\"crv\":\"P-521\"",
        "\"n\":\"",
        "\"e\":\"AQAB\"",
        "\"d\":",
        "\"OKP\"",
        "\"alg\":",
    ],
};
