use muster_node_attestors::x509pop::{Challenge, Payload, Response};
use muster_node_attestors::{PathTemplate, k8s_psat};

use crate::Target;

/// Whatever is read as a message of a node attestation is written and read as the same again.
pub(super) const MESSAGES: Target = Target {
    name: "attestation-messages",
    run: |input| {
        if let Ok(payload) = Payload::parse(input) {
            assert_eq!(Payload::parse(&payload.to_bytes()), Ok(payload));
        }
        if let Ok(challenge) = Challenge::parse(input) {
            assert_eq!(Challenge::parse(&challenge.to_bytes()), Ok(challenge));
        }
        if let Ok(response) = Response::parse(input) {
            assert_eq!(Response::parse(&response.to_bytes()), Ok(response));
        }
        if let Ok(payload) = k8s_psat::Payload::parse(input) {
            let again = k8s_psat::Payload::parse(payload.to_bytes().expose_secret()).expect("its own form");
            assert_eq!(again.expose_token(), payload.expose_token());
            assert!(
                !format!("{payload:?}").contains(payload.expose_token()) || payload.expose_token().len() < 16
            );
        }
    },
    seeds: || {
        let payload = Payload {
            certificates: vec![vec![0x30, 0], vec![1; 40]],
        };
        let nonce = [7; 32];
        let response = Response::Rsa {
            nonce,
            signature: vec![9; 256],
        };
        vec![
            payload.to_bytes(),
            Challenge::Rsa(nonce).to_bytes(),
            Challenge::Ecdsa(nonce).to_bytes(),
            response.to_bytes(),
            br#"{"cluster":"production","token":"header.claims.signature"}"#.to_vec(),
        ]
    },
    words: &[
        "\"certificates\":",
        "\"rsa_signature\":",
        "\"ecdsa_signature\":",
        "\"nonce\":",
        "\"signature\":",
        "\"r\":",
        "\"s\":",
        "null",
        "==",
        "\"cluster\":",
        "\"token\":",
        "[",
        "{",
    ],
};

/// Templates of nodes' names.
pub(super) const TEMPLATES: Target = Target {
    name: "path-templates",
    run: |input| {
        if let Ok(text) = std::str::from_utf8(input) {
            let _ = PathTemplate::parse(text);
        }
    },
    seeds: || {
        vec![
            b"/x509pop/{{ .Fingerprint }}".to_vec(),
            br#"/cn/{{ .Subject.CommonName | trimSuffix ".example.org" | replace "." "-" | trunc 8 }}"#
                .to_vec(),
            b"{{ lower .URISanSelectors.rack }}".to_vec(),
        ]
    },
    words: &[
        "{{",
        "}}",
        " | ",
        ".",
        "\"",
        "trimPrefix",
        "sha256sum",
        "trunc 99999999999999999999",
    ],
};
