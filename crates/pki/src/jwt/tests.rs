use muster_identity::{SpiffeId, TrustDomain, UnixTime};

use super::*;
use crate::{
    jws::{Algorithm, sign_compact},
    local_key::{KeyAlgorithm, LocalKey},
    signer::Signer,
};

const NOW: i64 = 1_800_000_000;

struct Keys(TrustDomain, Vec<JwtAuthority>);

impl JwtBundleSource for Keys {
    fn jwt_authorities(&self, trust_domain: &TrustDomain) -> Option<&[JwtAuthority]> {
        (*trust_domain == self.0).then_some(self.1.as_slice())
    }
}

fn at(seconds: i64) -> UnixTime {
    UnixTime::from_secs(seconds)
}

fn authority(kid: &str, key: &LocalKey) -> JwtAuthority {
    JwtAuthority::new(kid.parse().unwrap(), key.public_key().clone())
}

fn bundle(authorities: Vec<JwtAuthority>) -> Keys {
    Keys("example.org".parse().unwrap(), authorities)
}

fn profile() -> JwtSvidProfile {
    JwtSvidProfile {
        id: "spiffe://example.org/w".parse().unwrap(),
        audience: Audience::new(vec!["b".into(), "a".into()]).unwrap(),
        issuer: None,
        issued_at: at(NOW),
        expires_at: at(NOW + 300),
        token_id: TokenId::Absent,
    }
}

fn parts(token: &str) -> (String, String) {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let text = |part: &str| String::from_utf8(URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
    let mut parts = token.split('.');
    (text(parts.next().unwrap()), text(parts.next().unwrap()))
}

#[test]
fn an_issued_token_says_exactly_what_the_standard_allows() {
    let key = LocalKey::generate(KeyAlgorithm::EcP256).unwrap();
    let svid = issue_jwt_svid(&key, &"k1".parse().unwrap(), &profile()).unwrap();
    let (header, payload) = parts(svid.token());
    assert_eq!(header, r#"{"alg":"ES256","kid":"k1","typ":"JWT"}"#);
    assert_eq!(
        payload,
        r#"{"iss":"https://example.org","sub":"spiffe://example.org/w","aud":["b","a"],"exp":1800000300,"iat":1800000000}"#
    );
    assert_eq!(svid.expires_at(), at(NOW + 300));
    assert_eq!(svid.audience(), ["b", "a"]);
}

#[test]
fn what_is_issued_verifies_with_each_kind_of_key() {
    for algorithm in [KeyAlgorithm::EcP256, KeyAlgorithm::EcP384, KeyAlgorithm::Rsa2048] {
        let key = LocalKey::generate(algorithm).unwrap();
        let mut profile = profile();
        profile.issuer = Some("https://issuer.example".into());
        profile.token_id = TokenId::Random;
        let svid = issue_jwt_svid(&key, &"k1".parse().unwrap(), &profile).unwrap();
        let bundle = bundle(vec![
            authority("k0", &LocalKey::generate(algorithm).unwrap()),
            authority("k1", &key),
        ]);
        let verified = verify_jwt_svid(svid.token(), &bundle, "a", at(NOW)).unwrap();
        assert_eq!(verified.id(), &profile.id);
        assert_eq!(verified.issuer(), Some("https://issuer.example"));
        assert_eq!(verified.key_id().as_str(), "k1");
        assert_eq!(verified.token_id().unwrap().len(), 32);
        assert_eq!(verified.claims()["exp"], NOW + 300);
    }
}

#[test]
fn numbers_of_tokens_differ() {
    let key = LocalKey::generate(KeyAlgorithm::EcP256).unwrap();
    let mut profile = profile();
    profile.token_id = TokenId::Random;
    let number = || {
        let svid = issue_jwt_svid(&key, &"k1".parse().unwrap(), &profile).unwrap();
        verify_jwt_svid(svid.token(), &bundle(vec![authority("k1", &key)]), "a", at(NOW))
            .unwrap()
            .token_id()
            .map(str::to_owned)
    };
    assert_ne!(number(), number());
}

#[test]
fn times_are_judged_with_thirty_seconds_of_leeway() {
    let key = LocalKey::generate(KeyAlgorithm::EcP256).unwrap();
    let bundle = bundle(vec![authority("k", &key)]);
    let token = |claims: &str| {
        let payload = format!(r#"{{"sub":"spiffe://example.org/w","aud":"a",{claims}}}"#);
        sign_compact(&key, Algorithm::Es256, Some("k"), None, payload.as_bytes()).unwrap()
    };
    let verdict = |claims: &str| verify_jwt_svid(&token(claims), &bundle, "a", at(NOW)).map(|_| ());
    assert!(verdict(&format!(r#""exp":{}"#, NOW - 29)).is_ok());
    assert!(matches!(
        verdict(&format!(r#""exp":{}"#, NOW - 30)),
        Err(VerifyJwtError::Expired { .. })
    ));
    assert!(verdict(&format!(r#""exp":{}.9"#, NOW - 29)).is_ok());
    assert!(matches!(
        verdict(&format!(r#""exp":{}.9"#, NOW - 31)),
        Err(VerifyJwtError::Expired { .. })
    ));
    assert!(verdict(&format!(r#""exp":{},"nbf":{}"#, NOW + 60, NOW + 30)).is_ok());
    assert!(matches!(
        verdict(&format!(r#""exp":{},"nbf":{}.1"#, NOW + 60, NOW + 30)),
        Err(VerifyJwtError::NotYet { .. })
    ));
    assert!(matches!(
        verdict(r#""exp":253402300800"#),
        Err(VerifyJwtError::Claims(ClaimsError::Time("exp")))
    ));
    assert!(matches!(
        verdict(r#""exp":253402300799,"nbf":"0""#),
        Err(VerifyJwtError::Claims(ClaimsError::Type("nbf")))
    ));
    assert!(verdict(r#""exp":253402300799"#).is_ok());
}

#[test]
fn a_token_without_kid_is_tried_against_sixteen_keys_and_no_more() {
    let key = LocalKey::generate(KeyAlgorithm::EcP256).unwrap();
    let payload = br#"{"sub":"spiffe://example.org/w","aud":"a","exp":1800000300}"#;
    let token = sign_compact(&key, Algorithm::Es256, None, None, payload).unwrap();
    let others = |n: usize| {
        let other = LocalKey::generate(KeyAlgorithm::EcP256).unwrap();
        let mut keys: Vec<_> = (0..n).map(|i| authority(&format!("o{i}"), &other)).collect();
        // Keys of another kind could not have signed it and do not count.
        keys.insert(
            0,
            authority("p384", &LocalKey::generate(KeyAlgorithm::EcP384).unwrap()),
        );
        keys.push(authority("k", &key));
        bundle(keys)
    };
    assert_eq!(
        verify_jwt_svid(&token, &others(15), "a", at(NOW))
            .unwrap()
            .key_id()
            .as_str(),
        "k"
    );
    assert!(matches!(
        verify_jwt_svid(&token, &others(16), "a", at(NOW)),
        Err(VerifyJwtError::Signature(_))
    ));
}

#[test]
fn nothing_is_verified_without_an_audience() {
    let empty = bundle(Vec::new());
    assert!(matches!(
        verify_jwt_svid("", &empty, "", at(NOW)),
        Err(VerifyJwtError::NoAudience)
    ));
}

#[test]
fn what_is_no_token_is_not_issued() {
    let key = LocalKey::generate(KeyAlgorithm::EcP256).unwrap();
    let issue = |profile: &JwtSvidProfile| issue_jwt_svid(&key, &"k".parse().unwrap(), profile).map(|_| ());
    let mut bad = profile();
    bad.id = "spiffe://example.org".parse::<SpiffeId>().unwrap();
    assert!(matches!(issue(&bad), Err(IssueJwtError::Subject(_))));
    let mut bad = profile();
    bad.expires_at = bad.issued_at;
    assert!(matches!(issue(&bad), Err(IssueJwtError::Lifetime)));
    let mut bad = profile();
    bad.issuer = Some(String::new());
    assert!(matches!(issue(&bad), Err(IssueJwtError::Issuer)));
}

#[test]
fn a_token_is_never_printed() {
    let key = LocalKey::generate(KeyAlgorithm::EcP256).unwrap();
    let svid = issue_jwt_svid(&key, &"k".parse().unwrap(), &profile()).unwrap();
    let printed = format!("{svid:?}");
    assert!(
        svid.token().split('.').all(|part| !printed.contains(part)),
        "{printed}"
    );
}

proptest::proptest! {
    #[test]
    fn any_claims_are_read_or_refused(payload in "\\{\"sub\":\"spiffe://example.org/w\",\"aud\":\"a\",\"exp\":-?[0-9]{1,25}(\\.[0-9]+)?(e[0-9]{1,3})?\\}") {
        let _ = claims::Claims::parse(payload.as_bytes());
    }
}

#[test]
fn a_genuine_name_outside_of_what_its_trust_domain_is_narrowed_to_does_not_count() {
    use std::sync::Arc;

    use crate::bundle::{Bundle, BundleSet, Scope};

    let key = LocalKey::generate(KeyAlgorithm::EcP256).unwrap();
    let svid = issue_jwt_svid(&key, &"k1".parse().unwrap(), &profile()).unwrap();
    let mut foreign = Bundle::new("example.org".parse().unwrap());
    foreign.put_jwt_authority(authority("k1", &key)).unwrap();
    let foreign = Arc::new(foreign);
    let verify = |scope: Scope| {
        let mut set = BundleSet::new(Arc::new(Bundle::new("ours.example".parse().unwrap())));
        set.put_scoped(Arc::clone(&foreign), scope).unwrap();
        verify_jwt_svid(svid.token(), &set, "a", at(NOW)).map(|verified| verified.id().to_string())
    };
    let only = |path: &str| Scope::new(vec![path.parse().unwrap()]).unwrap();
    assert_eq!(verify(Scope::all()).unwrap(), "spiffe://example.org/w");
    assert!(verify(only("/w")).is_ok());
    assert!(matches!(
        verify(only("/other")),
        Err(VerifyJwtError::OutOfScope(_))
    ));
}
