use super::*;
use crate::{
    key::PublicKey,
    local_key::{KeyAlgorithm, LocalKey},
    signer::Signer,
};

fn flip(token: &str, at: usize) -> String {
    let mut bytes = token.as_bytes().to_vec();
    bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
    String::from_utf8(bytes).unwrap()
}

#[test]
fn every_algorithm_that_a_local_key_has_signs_and_verifies() {
    let keys = [KeyAlgorithm::EcP256, KeyAlgorithm::EcP384, KeyAlgorithm::Rsa2048]
        .map(|algorithm| LocalKey::generate(algorithm).unwrap());
    let mut made = 0;
    for algorithm in Algorithm::ALL {
        for key in &keys {
            match sign_compact(key, algorithm, Some("k"), Some("JWT"), b"{}") {
                Ok(token) => {
                    let jws = Compact::parse(&token).unwrap();
                    assert_eq!(
                        (jws.algorithm(), jws.key_id(), jws.typ()),
                        (algorithm, Some("k"), Some("JWT"))
                    );
                    for other in &keys {
                        let same = other.public_key() == key.public_key();
                        assert_eq!(jws.verify(other.public_key()).is_ok(), same, "{algorithm}");
                    }
                    made += 1;
                }
                Err(error) => assert!(matches!(error, JwsSignError::Algorithm { .. }), "{error}"),
            }
        }
    }
    assert_eq!(made, 8); // ES256, ES384 and six of RSA; no local key is on P-521
}

#[test]
fn the_es512_example_of_the_standard_verifies() {
    // RFC 7515 A.4.
    let key = PublicKey::from_ec_coordinates(
        crate::KeyKind::EcP521,
        &base64("AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrrjcBpXp5EOnYG_NjFZ6OvLFV1jSfS9tsz4qUxcWceqwQGk"),
        &base64("ADSmRA43Z1DSNx_RvcLI87cdL07l6jQyyBXMoxVg_l2Th-x3S1WDhjDly79ajL4Kkd0AZMaZmh9ubmf63e3kyMj2"),
    )
    .unwrap();
    let token = "eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA.AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZqwqT2SI-KGDKB34XO0aw_7XdtAG8GaSwFKdCAPZgoXD2YBJZCPEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKvU8vcnwNrmxYbSW9ERBXukOXolLzeO_Jn";
    let jws = Compact::parse(token).unwrap();
    assert_eq!(jws.algorithm(), Algorithm::Es512);
    assert!(jws.verify(&key).is_ok());
    assert_eq!(jws.unverified_payload(), b"Payload");
}

fn base64(text: &str) -> Vec<u8> {
    use ::base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    URL_SAFE_NO_PAD.decode(text).unwrap()
}

#[test]
fn ecdsa_signatures_have_their_one_length_whatever_r_and_s_are() {
    // One number in 128 has a leading zero byte; some of 600 signatures do.
    let key = LocalKey::generate(KeyAlgorithm::EcP256).unwrap();
    for n in 0..600 {
        let token = sign_compact(&key, Algorithm::Es256, None, None, format!("{n}").as_bytes()).unwrap();
        let signature = token.rsplit_once('.').unwrap().1;
        assert_eq!(signature.len(), 86, "{signature}");
        assert!(Compact::parse(&token).unwrap().verify(key.public_key()).is_ok());
    }
}

#[test]
fn no_changed_character_verifies() {
    let key = LocalKey::generate(KeyAlgorithm::EcP256).unwrap();
    let token = sign_compact(&key, Algorithm::Es256, Some("k"), None, b"{\"a\":1}").unwrap();
    for at in 0..token.len() {
        let changed = flip(&token, at);
        let believed = Compact::parse(&changed).is_ok_and(|jws| jws.verify(key.public_key()).is_ok());
        assert!(!believed, "{at}");
    }
}

#[test]
fn only_the_strict_form_is_read() {
    let key = LocalKey::generate(KeyAlgorithm::EcP256).unwrap();
    let good = sign_compact(&key, Algorithm::Es256, Some("k"), None, b"{}").unwrap();
    assert!(Compact::parse(&good).is_ok());
    for bad in [
        format!(" {good}"),
        format!("{good} "),
        format!("{good}\n"),
        format!("{good}="),
        format!("{good}."),
        format!(".{good}"),
        good.replace('.', ".."),
        good.rsplit_once('.').unwrap().0.to_owned(),
        String::new(),
        "..".to_owned(),
        "a".repeat(70_000),
    ] {
        assert!(Compact::parse(&bad).is_err(), "{bad}");
    }
}

#[test]
fn headers_have_three_members_and_no_more() {
    let with = |header: &str| {
        use ::base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
        Compact::parse(&format!("{}.e30.AAAA", URL_SAFE_NO_PAD.encode(header))).map(|_| ())
    };
    assert!(with(r#"{"alg":"ES256"}"#).is_ok());
    assert!(matches!(
        with(r#"{"alg":"ES256","crit":["b64"],"b64":false}"#),
        Err(CompactError::HeaderMember)
    ));
    assert!(matches!(
        with(r#"{"alg":"ES256","kid":7}"#),
        Err(CompactError::HeaderType("kid"))
    ));
    assert!(matches!(
        with(r#"{"alg":"ES256","alg":"none"}"#),
        Err(CompactError::Header(_))
    ));
    for alg in ["none", "None", "es256", "HS256", "EdDSA", "ES256K", ""] {
        assert!(
            matches!(
                with(&format!(r#"{{"alg":"{alg}"}}"#)),
                Err(CompactError::Algorithm)
            ),
            "{alg}"
        );
    }
    assert!(matches!(with("{}"), Err(CompactError::Algorithm)));
}

/// The pairs of numbers that JOSE's signatures are, by the collection that knows which ones libraries get wrong. Its
/// messages are no tokens, so that it is asked below [`Compact`].
#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the folder of vectors is named by the environment"
)]
fn ecdsa_signatures_of_fixed_length_are_judged_as_wycheproof_does() {
    let Some(folder) = std::env::var_os("MUSTER_VECTORS").map(std::path::PathBuf::from) else {
        println!("left out: wycheproof: MUSTER_VECTORS is not set");
        return;
    };
    let hex = |value: &serde_json::Value| -> Vec<u8> {
        let text = value.as_str().unwrap();
        (0..text.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
            .collect()
    };
    for (name, algorithm) in [
        ("ecdsa_secp256r1_sha256", Algorithm::Es256),
        ("ecdsa_secp384r1_sha384", Algorithm::Es384),
        ("ecdsa_secp521r1_sha512", Algorithm::Es512),
    ] {
        let file = std::fs::read(folder.join(format!("wycheproof/{name}_p1363_test.json"))).unwrap();
        let all: serde_json::Value = serde_json::from_slice(&file).unwrap();
        let mut cases = 0;
        for group in all["testGroups"].as_array().unwrap() {
            let key = PublicKey::from_spki_der(&hex(&group["publicKeyDer"])).unwrap();
            for test in group["tests"].as_array().unwrap() {
                let good = algorithm
                    .verify(&key, &hex(&test["msg"]), &hex(&test["sig"]))
                    .is_ok();
                cases += 1;
                assert_eq!(
                    good,
                    test["result"] == "valid",
                    "{name} {}: {}",
                    test["tcId"],
                    test["comment"]
                );
            }
        }
        assert!(cases > 100, "{name}: {cases}");
    }
}

proptest::proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "[A-Za-z0-9_.=+/-]{0,200}|.*") {
        let _ = Compact::parse(&text);
    }
}
