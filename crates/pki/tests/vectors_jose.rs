//! Signatures and keys against the collections of others: Wycheproof (JWS, ECDSA, RSA) and the JOSE cookbook
//! (RFC 7520). The collections are read from the folder that `MUSTER_VECTORS` names and said to be missing without it.

#![expect(clippy::unwrap_used, reason = "a vector that cannot be read fails its test")]

use std::path::PathBuf;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use muster_pki::{
    KeyKind, PublicKey, SignatureScheme, jwk,
    jws::{Algorithm, Compact},
};
use serde_json::Value;

#[expect(
    clippy::disallowed_methods,
    reason = "the folder of vectors is named by the environment"
)]
fn folder(what: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("MUSTER_VECTORS").map(|folder| PathBuf::from(folder).join(what));
    if folder.is_none() {
        println!("left out: {what}: MUSTER_VECTORS is not set");
    }
    folder
}

fn read(path: PathBuf) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn hex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

/// Whether a set of keys in JSON verifies a token, as a bundle would: by key id, each key for its own algorithm.
fn believed(keys: &[Value], token: &str) -> bool {
    let Ok(jws) = Compact::parse(token) else {
        return false;
    };
    keys.iter().filter_map(Value::as_object).any(|key| {
        let named = jws
            .key_id()
            .is_none_or(|kid| key.get("kid").is_none_or(|own| own == kid));
        let for_signatures = key.get("use").is_none_or(|usage| usage == "sig");
        let algorithm = jwk::algorithm(key).is_none_or(|only| only == jws.algorithm());
        let verifies = || jwk::public_key(key).is_ok_and(|key| jws.verify(&key).is_ok());
        named && for_signatures && algorithm && verifies()
    })
}

#[test]
fn json_web_signatures_are_judged_as_wycheproof_does() {
    let Some(folder) = folder("wycheproof") else {
        return;
    };
    let mut cases = 0;
    let (mut wrong, mut stricter) = (Vec::new(), Vec::new());
    for name in [
        "json_web_signature_test",
        "json_web_key_test",
        "json_web_crypto_test",
    ] {
        for group in read(folder.join(format!("{name}.json")))["testGroups"]
            .as_array()
            .unwrap()
        {
            // Groups without a public key test symmetric algorithms, which have no name here.
            let Some(public) = group.get("public") else {
                continue;
            };
            let keys = public["keys"]
                .as_array()
                .cloned()
                .unwrap_or_else(|| vec![public.clone()]);
            for test in group["tests"].as_array().unwrap() {
                let Some(token) = test["jws"].as_str() else {
                    continue;
                };
                cases += 1;
                let what = format!("{name} {} {}", test["tcId"], test["comment"]);
                // Keys of one broken smart card are known by a fingerprint of their primes; whose key it is decides
                // the owner of a bundle, and no check of ours replaces that.
                let roca = test["comment"] == "rejectsKeyWithRocaVulnerability";
                match (test["result"].as_str().unwrap(), believed(&keys, token)) {
                    ("invalid", true) if !roca => wrong.push(what),
                    ("valid", false) => stricter.push(what),
                    _ => {}
                }
            }
        }
    }
    println!(
        "figure: {cases} tokens, {} of them refused against the collection: {stricter:#?}",
        stricter.len()
    );
    assert!(cases > 300, "{cases}");
    assert!(wrong.is_empty(), "believed: {wrong:#?}");
    // The figures of the cookbook under a key whose alg is another than the token's, or does not exist.
    let contradict = |what: &String| what.contains("Figure20") || what.contains("Figure27");
    assert!(stricter.iter().all(contradict), "{stricter:#?}");
}

#[test]
fn ecdsa_signatures_are_judged_as_wycheproof_does() {
    let Some(folder) = folder("wycheproof") else {
        return;
    };
    for (name, scheme) in [
        ("ecdsa_secp256r1_sha256", SignatureScheme::EcdsaSha256),
        ("ecdsa_secp384r1_sha384", SignatureScheme::EcdsaSha384),
    ] {
        let mut cases = 0;
        for group in read(folder.join(format!("{name}_test.json")))["testGroups"]
            .as_array()
            .unwrap()
        {
            let key = PublicKey::from_spki_der(&hex(&group["publicKeyDer"])).unwrap();
            for test in group["tests"].as_array().unwrap() {
                let good = key.verify(scheme, &hex(&test["msg"]), &hex(&test["sig"])).is_ok();
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

#[test]
fn rsa_signatures_are_judged_as_wycheproof_does() {
    let Some(folder) = folder("wycheproof") else {
        return;
    };
    for (name, scheme) in [
        ("rsa_signature_2048_sha256", SignatureScheme::RsaPkcs1Sha256),
        ("rsa_signature_3072_sha384", SignatureScheme::RsaPkcs1Sha384),
        ("rsa_signature_4096_sha512", SignatureScheme::RsaPkcs1Sha512),
        ("rsa_pss_2048_sha256_mgf1_32", SignatureScheme::RsaPssSha256),
        ("rsa_pss_2048_sha384_mgf1_48", SignatureScheme::RsaPssSha384),
        ("rsa_pss_4096_sha512_mgf1_64", SignatureScheme::RsaPssSha512),
    ] {
        let (mut cases, mut keys) = (0, 0);
        for group in read(folder.join(format!("{name}_test.json")))["testGroups"]
            .as_array()
            .unwrap()
        {
            // Keys outside the policy (other exponents) are refused before any signature is looked at.
            let der = group.get("publicKeyDer").or_else(|| group.get("keyDer")).unwrap();
            let Ok(key) = PublicKey::from_spki_der(&hex(der)) else {
                continue;
            };
            assert!(matches!(key.kind(), KeyKind::Rsa { .. }));
            keys += 1;
            for test in group["tests"].as_array().unwrap() {
                let good = key.verify(scheme, &hex(&test["msg"]), &hex(&test["sig"])).is_ok();
                match test["result"].as_str().unwrap() {
                    "valid" => assert!(good, "{name} {}: {}", test["tcId"], test["comment"]),
                    "invalid" => assert!(!good, "{name} {}: {}", test["tcId"], test["comment"]),
                    _ => {} // acceptable to some: legacy forms that either answer fits
                }
                cases += 1;
            }
        }
        assert!(keys > 0 && cases > 50, "{name}: {keys} keys, {cases} cases");
    }
}

#[test]
fn the_cookbooks_signatures_verify() {
    let Some(folder) = folder("jose_cookbook") else {
        return;
    };
    for (name, algorithm) in [
        ("jws_4_1.rsa_v15_signature", Algorithm::Rs256),
        ("jws_4_2.rsa-pss_signature", Algorithm::Ps384),
        ("jws_4_3.ecdsa_signature", Algorithm::Es512),
    ] {
        let example = read(folder.join(format!("{name}.json")));
        let mut key = example["input"]["key"].as_object().unwrap().clone();
        // The example's key is the private one.
        assert_eq!(jwk::public_key(&key), Err(jwk::JwkError::Private));
        for private in ["d", "p", "q", "dp", "dq", "qi"] {
            key.remove(private);
        }
        let key = jwk::public_key(&key).unwrap();
        let jws = Compact::parse(example["output"]["compact"].as_str().unwrap()).unwrap();
        assert_eq!(jws.algorithm(), algorithm);
        assert!(jws.verify(&key).is_ok(), "{name}");
        assert_eq!(
            jws.unverified_payload(),
            example["input"]["payload"].as_str().unwrap().as_bytes()
        );
    }
    let hmac = read(folder.join("jws_4_4.hmac-sha2_integrity_protection.json"));
    assert!(Compact::parse(hmac["output"]["compact"].as_str().unwrap()).is_err());
    let public = read(folder.join("jwk_3_1.ec_public_key.json"));
    let public = public.as_object().unwrap();
    let key = jwk::public_key(public).unwrap();
    assert_eq!(
        URL_SAFE_NO_PAD.encode(key.ec_coordinates().unwrap().0),
        public["x"].as_str().unwrap()
    );
}
