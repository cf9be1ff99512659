//! Signatures against Project Wycheproof's collection: what it calls invalid must not verify, what it calls valid must.

use std::path::PathBuf;

use muster_pki::{PublicKey, PublicKeyError, SignatureScheme};
use serde_json::Value;

#[expect(
    clippy::disallowed_methods,
    reason = "the folder of vectors is named by the environment"
)]
fn folder() -> Option<PathBuf> {
    let folder = std::env::var_os("MUSTER_VECTORS").map(|folder| PathBuf::from(folder).join("wycheproof"));
    if folder.is_none() {
        println!("left out: wycheproof: MUSTER_VECTORS is not set");
    }
    folder
}

fn bytes(hex: &Value) -> Vec<u8> {
    let text = hex.as_str().expect("hexadecimal");
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal"))
        .collect()
}

fn run(file: &str, scheme: SignatureScheme) {
    let Some(folder) = folder() else { return };
    let text = std::fs::read(folder.join(file)).expect("the collection is there");
    let all: Value = serde_json::from_slice(&text).expect("JSON");
    let mut count = 0;
    for group in all["testGroups"].as_array().expect("groups") {
        let key = match PublicKey::from_spki_der(&bytes(&group["publicKeyDer"])) {
            Ok(key) => key,
            // The collection has keys with other exponents, which never get as far as a signature here.
            Err(PublicKeyError::RsaExponent) => continue,
            Err(error) => panic!("{file}: {error}"),
        };
        for test in group["tests"].as_array().expect("tests") {
            let verified = key.verify(scheme, &bytes(&test["msg"]), &bytes(&test["sig"]));
            let why = format!("{file} {}: {}", test["tcId"], test["comment"]);
            match test["result"].as_str() {
                Some("valid") => assert_eq!(verified, Ok(()), "{why}"),
                Some("invalid") => assert!(verified.is_err(), "{why}"),
                _ => {}
            }
            count += 1;
        }
    }
    assert!(count > 50, "{file}: {count} tests only");
}

#[test]
fn ecdsa_signatures_are_judged_as_wycheproof_does() {
    run("ecdsa_secp256r1_sha256_test.json", SignatureScheme::EcdsaSha256);
    run("ecdsa_secp384r1_sha384_test.json", SignatureScheme::EcdsaSha384);
}

#[test]
fn ed25519_signatures_are_judged_as_wycheproof_does() {
    run("ed25519_test.json", SignatureScheme::Ed25519);
}

#[test]
fn rsa_signatures_are_judged_as_wycheproof_does() {
    run(
        "rsa_signature_2048_sha256_test.json",
        SignatureScheme::RsaPkcs1Sha256,
    );
    run(
        "rsa_signature_3072_sha384_test.json",
        SignatureScheme::RsaPkcs1Sha384,
    );
    run(
        "rsa_signature_4096_sha512_test.json",
        SignatureScheme::RsaPkcs1Sha512,
    );
    run(
        "rsa_pss_2048_sha256_mgf1_32_test.json",
        SignatureScheme::RsaPssSha256,
    );
    run(
        "rsa_pss_2048_sha384_mgf1_48_test.json",
        SignatureScheme::RsaPssSha384,
    );
    run(
        "rsa_pss_4096_sha512_mgf1_64_test.json",
        SignatureScheme::RsaPssSha512,
    );
}
